# One rule for each figure: what draws it, and the arguments of that. A file is `table(...)`; all other text is itself.
# The names of the files that a figure is written to may hold the wildcards `model` and `ablation`.
NEURONS = "<results>/analysis/{model}/neurons"
RESAMPLE = "<results>/analysis/{model}/resample"
ABLATED = "<results>/analysis/{model}/{{ablation}}"
TOKEN_FILES = "<results>/ablation/{{model}}/{ablation}/tokens-{shard}.parquet"
SUMMARIES = {
    table: expand(f"{ABLATED}/{table}.parquet", model=MODELS)
    for table in ["heads", "layers", "responders"]
}
AUTHORS_UNITS = {
    table: expand(f"{RESAMPLE}/{table}.parquet", model=SETTINGS.as_published)
    for table in ["heads", "layers"]
}
FIGURE_RULES = {
    "self_repair_by_depth": (
        "figures.self_repair_by_depth:self_repair_by_depth",
        "self_repair_by_depth.{ablation}",
        {table: SUMMARIES[table] for table in ["heads", "layers"]},
    ),
    "as_published": (
        "figures.self_repair_by_depth:self_repair_by_depth",
        "as_published",
        AUTHORS_UNITS,
    ),
    "effect_scatter": (
        "figures.effect_scatter:effect_scatter",
        "effect_scatter.{model}.{ablation}",
        {"heads": "<results>/analysis/{model}/{ablation}/heads.parquet"},
    ),
    "repair_split": (
        "figures.repair_split:repair_split",
        "repair_split.{ablation}",
        {"layers": SUMMARIES["layers"]},
    ),
    "repair_share": (
        "figures.repair_split:repair_share",
        "repair_share.{ablation}",
        {"layers": SUMMARIES["layers"]},
    ),
    "repair_by_depth": (
        "figures.repair_by_depth:repair_by_depth",
        "repair_by_depth.{ablation}",
        {"layers": SUMMARIES["layers"]},
    ),
    "repair_breakdown": (
        "figures.repair_breakdown:repair_breakdown",
        "repair_breakdown.{ablation}",
        {"layers": SUMMARIES["layers"]},
    ),
    "responders": (
        "figures.responders:responders",
        "responders.{ablation}",
        {"table": SUMMARIES["responders"]},
    ),
    "training_loss": (
        "figures.training_loss:training_loss_of_models",
        "training_loss",
        {
            "logs": list(TRAINING_LOGS.values()),
            "summaries": list(TRAINING_SUMMARIES.values()),
        },
    ),
    "layer_moving": (
        "figures.iterative:layer_moving",
        "layer_moving",
        {
            "moving": expand(
                "<results>/analysis/{model}/iterative/moving.parquet", model=MODELS
            )
        },
    ),
    "self_repression": (
        "figures.iterative:self_repression",
        "self_repression",
        {
            "repression": expand(
                "<results>/analysis/{model}/iterative/repression.parquet", model=MODELS
            )
        },
    ),
    "norm_scale": (
        "figures.norm_scale:norm_scale_of_heads",
        "norm_scale.{model}",
        {
            "norm": expand(
                "<results>/analysis/{{model}}/{ablation}/norm.parquet",
                ablation=ABLATIONS,
            ),
            "histogram": expand(
                "<results>/analysis/{{model}}/{ablation}/norm_histogram.parquet",
                ablation=ABLATIONS,
            ),
            "heads": f"{RESAMPLE}/heads.parquet",
            "chosen": "<results>/analysis/{model}/chosen_heads.csv",
        },
    ),
    "ablation_types": (
        "figures.ablation_types:ablation_types_of_head",
        "ablation_types.{model}",
        {
            "tokens": expand(TOKEN_FILES, ablation=ABLATIONS, shard=range(SHARDS)),
            "heads": f"{RESAMPLE}/heads.parquet",
        },
    ),
    "noise": (
        "figures.noise:noise_of_heads",
        "noise.{model}",
        {
            "tokens": expand(TOKEN_FILES, ablation="resample", shard=range(SHARDS)),
            "chosen": "<results>/analysis/{model}/chosen_heads.csv",
            "rates": "<results>/analysis/{model}/noise.parquet",
        },
    ),
    "noise_components": (
        "figures.noise:noise_components",
        "noise_components",
        {"table": expand("<results>/analysis/{model}/noise.parquet", model=MODELS)},
    ),
    "neuron_sparsity": (
        "figures.neuron_sparsity:neuron_sparsity",
        "neuron_sparsity.{model}",
        {"sparsity": f"{NEURONS}/sparsity.parquet"},
    ),
    "neuron_cumulative": (
        "figures.neuron_cumulative:neuron_cumulative",
        "neuron_cumulative.{model}",
        {"cumulative": f"{NEURONS}/cumulative.parquet"},
    ),
    "neuron_histograms": (
        "figures.neuron_histograms:neuron_histograms",
        "neuron_histograms.{model}",
        {"histograms": f"{NEURONS}/histograms.parquet"},
    ),
    "neuron_frequency": (
        "figures.neuron_frequency:neuron_frequency",
        "neuron_frequency.{model}",
        {"frequency": f"{NEURONS}/frequency.parquet"},
    ),
    "erasure_scatter": (
        "figures.erasure_scatter:erasure_scatter",
        "erasure_scatter.{model}",
        {
            "tokens": "<results>/ablation/{model}/neurons/tokens.parquet",
            "shares": f"{NEURONS}/shares.parquet",
        },
    ),
    "reference_scatter": (
        "figures.reference_scatter:reference_scatter",
        "reference_scatter",
        {
            "heads": "<results>/analysis/reference/heads.parquet",
            "agreement": "<results>/analysis/reference/agreement.parquet",
            "models": "<results>/analysis/reference/models.csv",
        },
    ),
}
# Arguments that are no files; `{model}` is the figure's.
TEXTS = {
    "as_published": ["unit=not logits: mixed, as published"],
    "training_loss": [f"models={name}" for name in TRAINING_LOGS],
    "noise": ["model={model}"],
    "ablation_types": ["model={model}"],
}

for figure, (function, target, tables) in FIGURE_RULES.items():

    rule:
        """Draw a figure; `workflow/report/captions.yaml` says of each what it shows."""
        name:
            f"figure_{figure}"
        input:
            **tables,
            code=code("figure", "draw", function),
        output:
            figure_files(target),
        log:
            f"<logs>/figure_{target}.log",
        benchmark:
            f"<benchmarks>/figure_{target}.tsv"
        conda:
            "../../envs/draw.yaml"
        resources:
            mem_mb=1500,
            runtime=10,
        params:
            function=function,
            inputs=arguments(tables, TEXTS.get(figure, [])),
        shell:
            "python {input.code[0]:q} --function {params.function} --inputs {params.inputs:q} --output {output:q} "
            "2>&1 | tee {log:q}"
