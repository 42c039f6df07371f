# Each figure: what draws it, the name of its files, its arguments that are tables, and those that are text. A rule draws
# the figure of every model and ablation, and an edit of what draws it redraws it alone.
FIGURE_RULES = {
    "self_repair_by_depth": (
        "self_repair_by_depth:self_repair_by_depth",
        "self_repair_by_depth.{ablation}",
        {
            table: with_studies(f"{{ablation}}/{table}.parquet")
            for table in ["heads", "layers"]
        },
    ),
    "effect_scatter": (
        "effect_scatter:effect_scatter",
        "effect_scatter.{model}.{ablation}",
        {"heads": f"{OF_ABLATION}/heads.parquet"},
    ),
    **{
        figure: (
            f"{module}:{figure}",
            f"{figure}.{{ablation}}",
            {table: of_models(f"{{ablation}}/{file}.parquet")},
        )
        for figure, module, table, file in [
            ("repair_split", "repair_split", "layers", "layers"),
            ("repair_share", "repair_split", "layers", "layers"),
            ("responders", "responders", "table", "responders"),
            ("repair_by_depth", "repair_by_depth", "layers", "layers"),
            ("repair_breakdown", "repair_breakdown", "layers", "layers"),
        ]
    },
    "norm_scale": (
        "norm_scale:norm_scale_of_heads",
        "norm_scale.{model}",
        {
            "norm": of_ablations("norm.parquet"),
            "histogram": of_ablations("norm_histogram.parquet"),
            "heads": f"{OF_MODEL}/resample/heads.parquet",
            "chosen": f"{OF_MODEL}/chosen_heads.csv",
        },
    ),
    "norm_share": (
        "norm_share:norm_share",
        "norm_share",
        {"norm": with_studies("resample/norm.parquet", [*MODELS, *TWINS])},
    ),
    "layer_units": (
        "layer_units:layer_units",
        "layer_units",
        {"units": beyond("layers", "units")},
    ),
    "hand_off_share": (
        "hand_off:hand_off_share",
        "hand_off_share",
        {"sparsity": beyond("hand-off", "sparsity")},
    ),
    "hand_off_matrix": (
        "hand_off:hand_off_matrix",
        "hand_off_matrix.{model}",
        {"hand_off": f"{OF_MODEL}/hand-off/hand_off.parquet"},
    ),
    "loss_saved": (
        "loss_saved:loss_saved",
        "loss_saved",
        {"losses": beyond("loss", "losses")},
    ),
    "ablation_types": (
        "ablation_types:ablation_types_of_head",
        "ablation_types.{model}",
        {
            "tokens": of_shards("tokens", ABLATIONS),
            "heads": f"{OF_MODEL}/resample/heads.parquet",
        },
        ["model={model}"],
    ),
    "noise": (
        "noise:noise_of_heads",
        "noise.{model}",
        {
            "tokens": of_shards("tokens", ["resample"]),
            "chosen": f"{OF_MODEL}/chosen_heads.csv",
            "rates": f"{OF_MODEL}/noise.parquet",
        },
        ["model={model}"],
    ),
    "noise_components": (
        "noise:noise_components",
        "noise_components",
        {"table": of_models("noise.parquet")},
    ),
    **{
        f"neuron_{table}": (
            f"neuron_{table}:neuron_{table}",
            f"neuron_{table}.{{model}}",
            {table: f"{OF_MODEL}/neurons/{table}.parquet"},
        )
        for table in ["sparsity", "cumulative"]
    },
    "erasure_scatter": (
        "erasure_scatter:erasure_scatter",
        "erasure_scatter.{model}",
        {
            "tokens": f"{RESULTS}/ablation/{{model}}/neurons/tokens.parquet",
            "shares": f"{OF_MODEL}/neurons/shares.parquet",
        },
    ),
    **{
        f"neuron_{table}": (
            f"neuron_{table}:neuron_{table}",
            f"neuron_{table}.{{model}}",
            {table: f"{OF_MODEL}/neurons/{table}.parquet"},
        )
        for table in ["histograms", "frequency"]
    },
    "threshold": (
        "threshold:threshold",
        "threshold",
        {"thresholds": beyond("threshold", "thresholds")},
    ),
    "attribution": (
        "attribution:attribution",
        "attribution",
        {table: beyond("attribution", table) for table in ["heads", "findings"]},
    ),
    "training_loss": (
        "training_loss:training_loss_of_models",
        "training_loss",
        {
            "logs": list(TRAINING_LOGS.values()),
            "summaries": list(TRAINING_SUMMARIES.values()),
        },
        [f"models={name}" for name in TRAINING_LOGS],
    ),
    "layer_moving": (
        "iterative:layer_moving",
        "layer_moving",
        {"moving": of_models("iterative/moving.parquet")},
    ),
    "self_repression": (
        "iterative:self_repression",
        "self_repression",
        {"repression": of_models("iterative/repression.parquet")},
    ),
    "distributions": (
        "distributions:distributions",
        "distributions",
        {
            table: beyond("distributions", table)
            for table in ["heads", "accuracy", "findings"]
        },
    ),
    "repairers": (
        "repairers:repairers",
        "repairers",
        {"findings": beyond("distributions", "findings")},
    ),
    "as_published": (
        "self_repair_by_depth:self_repair_by_depth",
        "as_published",
        {
            table: of_models(f"resample/{table}.parquet", SETTINGS.as_published)
            for table in ["heads", "layers"]
        },
        ["unit=not logits: mixed, as published"],
    ),
    "reference_scatter": (
        "reference_scatter:reference_scatter",
        "reference_scatter",
        {
            table.split(".")[0]: f"{RESULTS}/analysis/reference/{table}"
            for table in ["heads.parquet", "agreement.parquet", "models.csv"]
        },
    ),
}
FIGURE_RULES |= {
    figure: (
        f"{module}:{figure}",
        figure,
        {table: SETTINGS.family(table) for table in tables},
    )
    for figure, (module, tables) in FAMILY_FIGURES.items()
    if SETTINGS.family("arms")
}
# Those that this run has something to show in.
if not TRAINING_LOGS:
    del FIGURE_RULES["training_loss"]
for study, figure in [
    *[("threshold", "threshold"), ("attribution", "attribution")],
    *[("loss", "loss_saved"), ("distributions", "distributions")],
    ("distributions", "repairers"),
]:
    if not beyond(study, "findings"):
        del FIGURE_RULES[figure]
if not SETTINGS.as_published:
    del FIGURE_RULES["as_published"]
if not SETTINGS.reference:
    del FIGURE_RULES["reference_scatter"]
FIGURES = []

for figure, (function, target, tables, *texts) in FIGURE_RULES.items():
    named, files = arguments_of_each(JOBS, target, tables, *texts)
    drawn = list(dict.fromkeys(argument.split(":")[0] for argument in named))
    FIGURES += drawn

    rule:
        """Draw a figure; `workflow/report/captions.yaml` says of each what it shows."""
        name:
            f"figure_{figure}"
        input:
            tables=files,
            code=code("figure", "draw", f"figures.{function}"),
        output:
            [file for name in drawn for file in figure_files(name)],
        log:
            f"<logs>/figure_{figure}.log",
        benchmark:
            f"<benchmarks>/figure_{figure}.tsv"
        conda:
            "../../envs/draw.yaml"
        resources:
            mem_mb=1500,
        params:
            function=f"figures.{function}",
            inputs=named,
        shell:
            "python {input.code[0]:q} --function {params.function:q} --inputs {params.inputs:q} --output {output:q} "
            "2>&1 | tee {log:q}"
