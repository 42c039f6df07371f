# Tables in, tidy tables out: one rule for each entry, with its function, the name of its jobs, the arguments of the
# function and the files that it writes.
SHARD_TOKENS, SHARD_SUMS = of_shards("tokens"), of_shards("sums")
RESAMPLED = of_shards("tokens", ["resample"])
RESAMPLED_SUMS = of_shards("sums", ["resample"])
NEURON_SUMMARIES = "sparsity histograms shares cumulative frequency erasure".split()
BOOTSTRAP = [
    "model={model}",
    f"replicates={config['analysis']['bootstrap_replicates']}",
    f"seed={config['seed']}",
]
RESELECTED = [*BOOTSTRAP, f"top_fraction={config['analysis']['top_fraction']}"]
CLEAN_TOKENS = "<results>/ablation/{model}/clean/tokens.parquet"


def with_tokenizer(wildcards):
    """Arguments of analyses that decode tokens."""
    tokenizer = SETTINGS.tokenizer_directory(wildcards.model)
    return [*(text.format(**wildcards) for text in BOOTSTRAP), f"tokenizer={tokenizer}"]


ANALYSES = {
    "summarise_heads": dict(
        function="analysis.heads:summarise",
        job="summarise_heads.{model}.{ablation}",
        tables={"tokens": SHARD_TOKENS, "sums": SHARD_SUMS, "clean": CLEAN_TOKENS},
        texts=[*RESELECTED, "ablation={ablation}"],
        output=expand(
            f"{OF_ABLATION}/{{table}}.{{suffix}}",
            table=["heads", "layers", "responders"],
            suffix=["parquet", "csv"],
            allow_missing=True,
        ),
    ),
    "bootstrap_statistics": dict(
        function="claims.bootstrap:head_statistics",
        job="bootstrap_statistics.{model}",
        tables={"tokens": RESAMPLED, "sums": RESAMPLED_SUMS, "clean": CLEAN_TOKENS},
        texts=RESELECTED,
        output=[f"{OF_MODEL}/resample/head_statistics.{s}" for s in ("parquet", "csv")],
    ),
    "neuron_statistics": dict(
        function="claims.bootstrap:neuron_statistics",
        job="neuron_statistics.{model}",
        tables={
            "tokens": "<results>/ablation/{model}/neurons/tokens.parquet",
            "chosen": f"{OF_MODEL}/chosen_heads.csv",
            "clean": "<results>/ablation/{model}/clean/tokens.parquet",
            "heads": f"{OF_MODEL}/resample/head_statistics.parquet",
        },
        texts=BOOTSTRAP,
        output=[f"{OF_MODEL}/neurons/statistics.{s}" for s in ("parquet", "csv")],
    ),
    "choose_heads": dict(
        function="ablation.chosen_heads:chosen_of_files",
        job="choose_heads.{model}",
        tables={"tokens": RESAMPLED},
        texts=lambda wildcards: [
            f"model={wildcards.model}",
            f"count={config['experiments']['chosen_heads']}",
            *(
                f"highlight={head}"
                for head in SETTINGS.highlight_heads(wildcards.model)
            ),
        ],
        output=f"{OF_MODEL}/chosen_heads.csv",
    ),
    "summarise_norm": dict(
        function="analysis.final_norm:norm_of_files",
        job="summarise_norm.{model}.{ablation}",
        tables={"tokens": SHARD_TOKENS, "clean": CLEAN_TOKENS},
        texts=[*RESELECTED, "ablation={ablation}"],
        output=expand(
            f"{OF_ABLATION}/{{file}}",
            file=["norm.parquet", "norm.csv", "norm_histogram.parquet"],
            allow_missing=True,
        ),
    ),
    "summarise_noise": dict(
        function="analysis.noise:noise_of_files",
        job="summarise_noise.{model}",
        tables={
            "tokens": RESAMPLED,
            "clean": CLEAN_TOKENS,
            "partners": "<results>/ablation/{model}/partners.parquet",
        },
        texts=RESELECTED,
        output=[f"{OF_MODEL}/noise.parquet", f"{OF_MODEL}/noise.csv"],
    ),
    "summarise_iterative": dict(
        function="analysis.iterative:summarise",
        job="summarise_iterative.{model}",
        tables={
            table: f"<results>/ablation/{{model}}/iterative/{table}.parquet"
            for table in ["moves", "additions"]
        },
        texts=BOOTSTRAP,
        output=[
            *expand(
                f"{OF_MODEL}/iterative/{{table}}.{{suffix}}",
                table=["moving", "simulated", "repression"],
                suffix=["parquet", "csv"],
                allow_missing=True,
            ),
            f"{OF_MODEL}/iterative/iterative_summary.csv",
        ],
    ),
    "summarise_neurons": dict(
        function="analysis.neurons:neurons_of_files",
        kind="measure",  # it decodes tokens
        job="summarise_neurons.{model}",
        tables={
            **{
                table: f"<results>/ablation/{{model}}/neurons/{table}.parquet"
                for table in ["tokens", "neurons", "ranks"]
            },
            "sampled": "<results>/tokens/{model}/tokens.parquet",
        },
        also=lambda wildcards: SETTINGS.tokenizer_files(wildcards.model),
        texts=with_tokenizer,
        output=expand(
            f"{OF_MODEL}/neurons/{{table}}.{{suffix}}",
            table=NEURON_SUMMARIES,
            suffix=["parquet", "csv"],
            allow_missing=True,
        ),
    ),
    "summarise_units": dict(
        function="analysis.units:summarise_units",
        job="summarise_units.{model}",
        tables={
            "units": of_shards("tokens", ["units"]),
            "tokens": RESAMPLED,
            "clean": CLEAN_TOKENS,
        },
        texts=[
            *RESELECTED,
            *(f"sets={unit}" for unit in config["ablation"]["units"]),
        ],
        output=expand(
            f"{OF_MODEL}/layers/{{table}}.{{suffix}}",
            table=["units", "findings"],
            suffix=["parquet", "csv"],
            allow_missing=True,
        ),
    ),
    "summarise_hand_off": dict(
        function="analysis.hand_off:hand_off_of_files",
        kind="measure",  # it decodes tokens
        job="summarise_hand_off.{model}",
        tables={
            "hand_off": of_shards("hand_off", ["resample"]),
            "held": "<results>/ablation/{model}/held.parquet",
            "clean": CLEAN_TOKENS,
            "sampled": "<results>/tokens/{model}/tokens.parquet",
            "facts": "<results>/models/{model}/model.json",
        },
        also=lambda wildcards: SETTINGS.tokenizer_files(wildcards.model),
        texts=with_tokenizer,
        output=[
            f"{OF_MODEL}/hand-off/hand_off.parquet",
            *expand(
                f"{OF_MODEL}/hand-off/{{table}}.{{suffix}}",
                table=["sparsity", "pairs", "findings"],
                suffix=["parquet", "csv"],
                allow_missing=True,
            ),
        ],
    ),
    "summarise_loss": dict(
        function="analysis.loss:summarise_loss",
        job="summarise_loss.{model}",
        tables={
            "losses": "<results>/ablation/{model}/losses.parquet",
            "facts": "<results>/models/{model}/model.json",
        },
        texts=BOOTSTRAP,
        output=expand(
            f"{OF_MODEL}/loss/{{table}}.{{suffix}}",
            table=["losses", "findings"],
            suffix=["parquet", "csv"],
            allow_missing=True,
        ),
    ),
    **{
        analysis: dict(
            function=f"analysis.{function}",
            job=f"{analysis}.{{model}}",
            tables={
                "estimates": "<results>/ablation/{model}/estimates.parquet",
                "facts": "<results>/models/{model}/model.json",
            },
            texts=BOOTSTRAP,
            output=expand(
                f"{OF_MODEL}/{study}/{{table}}.{{suffix}}",
                table=[table, "findings"],
                suffix=["parquet", "csv"],
                allow_missing=True,
            ),
        )
        for analysis, function, study, table in [
            ("vary_threshold", "threshold:by_threshold", "threshold", "thresholds"),
            ("judge_estimates", "attribution:summarise", "attribution", "heads"),
        ]
    },
    "summarise_distributions": dict(
        function="analysis.distributions:summarise",
        job="summarise_distributions.{model}",
        tables={
            table: f"<results>/ablation/{{model}}/distributions/{table}.parquet"
            for table in ["sums", "answers", "hand_off"]
        },
        texts=BOOTSTRAP,
        output=expand(
            f"{OF_MODEL}/distributions/{{table}}.{{suffix}}",
            table=["heads", "accuracy", "findings"],
            suffix=["parquet", "csv"],
            allow_missing=True,
        ),
    ),
    "model_overview": dict(
        function="analysis.overview:overview_of_files",
        job="model_overview",
        tables={
            "facts": expand("<results>/models/{model}/model.json", model=MODELS),
            "heads": of_models("resample/heads.parquet"),
        },
        also=list(TRAINING_SUMMARIES.values()),
        texts=[f"summaries={name}={path}" for name, path in TRAINING_SUMMARIES.items()],
        output="<results>/analysis/models.csv",
    ),
}

for rule_of_study, made in OF_STUDIES.values():
    if not made:
        del ANALYSES[rule_of_study]

for analysis, entry in ANALYSES.items():

    rule:
        """Turn tables of a measurement into tidy ones; `results/README.md` says what they hold."""
        name:
            analysis
        input:
            **entry["tables"],
            also=entry.get("also", []),
            code=code("analyse", entry.get("kind", "analyse"), entry["function"]),
        output:
            entry["output"],
        log:
            f"<logs>/{entry['job']}.log",
        benchmark:
            f"<benchmarks>/{entry['job']}.tsv"
        conda:
            f"../../envs/{entry.get('kind', 'analyse')}.yaml"
        resources:
            mem_mb=lambda wildcards, input, attempt: attempt
            * int(4000 + 5 * input.size_mb),
        params:
            function=entry["function"],
            inputs=arguments(entry["tables"], entry["texts"]),
        shell:
            "python {input.code[0]:q} --function {params.function:q} --inputs {params.inputs:q} --output {output:q} "
            "2>&1 | tee {log:q}"


# Second measurements have summaries of heads alone, twins what claims and studies need.
OF_TWINS = [
    *["bootstrap_statistics", "choose_heads", "neuron_statistics"],
    *(OF_STUDIES[study][0] for study in STUDIES_BEYOND),
]
ANALYSIS_JOBS = [
    *(job for entry in ANALYSES.values() for job in every(entry["job"])),
    *expand("summarise_heads.{model}.resample", model=SETTINGS.as_published),
    *expand("{analysis}.{model}", analysis=OF_TWINS, model=TWINS),
    *expand("summarise_norm.{model}.resample", model=TWINS),
]
ANALYSED = [
    *(file for entry in ANALYSES.values() for file in every(entry["output"])),
    *expand(
        ANALYSES["summarise_heads"]["output"],
        model=SETTINGS.as_published,
        ablation="resample",
    ),
    *(
        file
        for name in [*OF_TWINS, "summarise_norm"]
        for file in expand(ANALYSES[name]["output"], model=TWINS, ablation="resample")
    ),
]
