# Every deliverable of a run: a target of `all`, and a part of the record.
DELIVERABLES = [
    *expand(
        "<results>/figures/{figure}.{suffix}", figure=FIGURES, suffix=FIGURE_SUFFIXES
    ),
    *expand("<results>/tables/{table}.{suffix}", table=TABLES, suffix=["tex", "csv"]),
    *expand(
        "<results>/analysis/{model}/{ablation}/{table}.{suffix}",
        model=MODELS,
        ablation=ABLATIONS,
        table=["heads", "layers", "responders", "norm"],
        suffix=["parquet", "csv"],
    ),
    *expand(
        "<results>/analysis/{model}/resample/head_statistics.{suffix}",
        model=MODELS,
        suffix=["parquet", "csv"],
    ),
    *expand(
        "<results>/analysis/{model}/{ablation}/norm_check.csv",
        model=MODELS,
        ablation=ABLATIONS,
    ),
    *expand(
        "<results>/analysis/{model}/{table}",
        model=MODELS,
        table=["chosen_heads.csv", "noise.parquet", "noise.csv"],
    ),
    *expand(
        "<results>/analysis/{model}/resample/{table}.{suffix}",
        model=SETTINGS.as_published,
        table=["heads", "layers"],
        suffix=["parquet", "csv"],
    ),
    *expand(
        "<results>/analysis/{model}/iterative/{table}.csv",
        model=MODELS,
        table=["moving", "simulated", "repression", "iterative_summary"],
    ),
    *expand(
        "<results>/analysis/{model}/neurons/{table}.{suffix}",
        model=MODELS,
        table=NEURON_SUMMARIES,
        suffix=["parquet", "csv"],
    ),
    "<results>/analysis/models.csv",
    *REFERENCE,
    *REPORT,
    *PAPER,
]
# What lies between the inputs and the deliverables, but for folded models: `model.json` has their checksums.
INTERMEDIATE = [
    *expand(
        "<results>/tokens/{model}/{table}.parquet",
        model=MEASURED,
        table=["tokens", "rows", "documents"],
    ),
    *expand("<results>/models/{model}/model.json", model=MEASURED),
    *expand(
        "<results>/ablation/{model}/clean/{file}",
        model=MEASURED,
        file=["tokens.parquet", "selected.parquet", "means.safetensors"],
    ),
    *(
        path
        for ablation in ABLATIONS
        for path in expand(
            "<results>/ablation/{model}/{ablation}/{table}-{shard}.parquet",
            model=SETTINGS.measured(ablation),
            ablation=ablation,
            table=["tokens", "sums"],
            shard=range(SHARDS),
        )
    ),
    *expand(
        "<results>/ablation/{model}/{table}.parquet",
        model=MODELS,
        table=[
            "partners",
            "iterative/moves",
            "iterative/additions",
            "neurons/tokens",
            "neurons/neurons",
            "neurons/ranks",
        ],
    ),
    *expand(
        "<results>/analysis/{model}/{ablation}/{table}.parquet",
        model=MODELS,
        ablation=ABLATIONS,
        table=["norm_histogram", "norm_check"],
    ),
    *expand(
        "<results>/analysis/{model}/resample/responders.{suffix}",
        model=SETTINGS.as_published,
        suffix=["parquet", "csv"],
    ),
    *expand(
        "<results>/analysis/{model}/iterative/{table}.parquet",
        model=MODELS,
        table=["moving", "simulated", "repression"],
    ),
    "<results>/paper/macros.tex",
]
INPUTS = sorted(
    {
        *(file for model in MODELS for file in SETTINGS.model_files(model)),
        *(file for model in MODELS for file in SETTINGS.tokenizer_files(model)),
        *TRAINING_LOGS.values(),
        *TRAINING_SUMMARIES.values(),
        *SETTINGS.fetched_records("models").values(),
        *SETTINGS.fetched_records("corpora").values(),
        *([SETTINGS.reference] if SETTINGS.reference else []),
        *(["config/training.yaml"] if RETRAINED else []),
        SETTINGS.corpus_file,
        "config/claims.yaml",
        "Snakefile",
    }
)


rule record_costs:
    """What the jobs of each rule took, as the report shows it."""
    input:
        code=code("record_costs", "analyse"),
        record="<results>/report/run.json",
        benchmarks=rules.write_report.input.benchmarks,
    output:
        "<results>/report/costs.csv",
    log:
        "<logs>/record_costs.log",
    benchmark:
        "<benchmarks>/record_costs.tsv"
    conda:
        "../../envs/analyse.yaml"
    resources:
        mem_mb=1000,
        runtime=5,
    shell:
        "python {input.code[0]:q} --run-record {input.record:q} --benchmarks {input.benchmarks:q} --output {output:q} "
        "2>&1 | tee {log:q}"


rule record_crate:
    """The record of the run, made last: results and inputs with SHA-256, code, configuration, machine, costs."""
    input:
        code=code("record_crate", "analyse"),
        files=[
            *DELIVERABLES,
            *INTERMEDIATE,
            *rules.write_report.input.benchmarks,
            "<results>/report/costs.csv",
        ],
        sources=INPUTS,
    output:
        "<results>/ro-crate-metadata.json",
    log:
        "<logs>/record_crate.log",
    benchmark:
        "<benchmarks>/record_crate.tsv"
    conda:
        "../../envs/analyse.yaml"
    resources:
        mem_mb=1000,
        runtime=20,
    params:
        run=subpath(output[0], parent=True),
        listed=listed,
        models=[f"{model}={SETTINGS.directory(model)}" for model in MEASURED],
    shell:
        "python {input.code[0]:q} --run {params.run:q} --models {params.models:q} @{params.listed:q} "
        "2>&1 | tee {log:q}"
