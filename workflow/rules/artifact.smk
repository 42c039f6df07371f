# Every deliverable of a run: a target of `all`, and a part of the record.
DELIVERABLES = [
    *expand(
        "<results>/figures/{figure}.{suffix}", figure=FIGURES, suffix=FIGURE_SUFFIXES
    ),
    *expand("<results>/tables/{table}.{suffix}", table=TABLES, suffix=["tex", "csv"]),
    *ANALYSED,
    *every("<results>/analysis/{model}/{ablation}/norm_check.csv"),
    *REFERENCE,
    *REPORT,
    *PAPER,
]
FINISHED = [*DELIVERABLES, "<results>/ro-crate-metadata.json"]
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
        file=[
            *["candidates.parquet", "selected.parquet", "units.parquet"],
            "means.safetensors",
        ],
    ),
    *MEASUREMENTS.values(),
    *expand(
        "<results>/ablation/{of}/{table}-{shard}.parquet",
        of=dict.fromkeys(f"{model}/{ablation}" for model, ablation, _ in SHARDED),
        table=["tokens", "hand_off"],
        shard=range(SHARDS),
    ),
    *expand("<results>/ablation/{model}/iterative/moves.parquet", model=MODELS),
    *expand(
        "<results>/ablation/{model}/neurons/{table}.parquet",
        model=[*MODELS, *TWINS],
        table=["neurons", "ranks"],
    ),
    *expand(
        "<results>/ablation/{model}/distributions/{table}.parquet",
        table=["answers", "hand_off"],
        model=[*MODELS, *TWINS] if "distributions" in STUDIES_BEYOND else [],
    ),
    "<results>/paper/macros.tex",
]
# Code of all rules so far: scripts, modules, environments, and what else lies in the checkout.
CODE = {
    str(file)
    for rule in workflow.rules
    for file in rule.input
    if not callable(file)
    and not str(file).startswith(("results/", "<"))
    and os.path.isfile(file)
}
INPUTS = sorted(
    {
        *CODE,
        *code("record_crate", "analyse"),
        *(file for model in MODELS for file in SETTINGS.model_files(model)),
        *(file for model in MODELS for file in SETTINGS.tokenizer_files(model)),
        *TRAINING_LOGS.values(),
        *TRAINING_SUMMARIES.values(),
        *SETTINGS.all_fetched,
        *SETTINGS.of_studies("**/*.parquet"),
        *SETTINGS.of_studies("**/*.parquet", "beyond"),
        *SETTINGS.of_studies("report/claims.json"),
        *(file for table in FAMILY_TABLES for file in SETTINGS.family(table)),
        *([SETTINGS.reference] if SETTINGS.reference else []),
        *(["config/training.yaml"] if RETRAINED else []),
        SETTINGS.corpus_file,
        *(str(file) for file in Path("workflow").rglob("*.smk")),
        *(str(file) for file in Path("workflow/lib").glob("*.py")),
        HUB_LOCK,
        "Snakefile",
    }
)


rule record_costs:
    """What the jobs of each rule took, as the report shows it."""
    input:
        code=code("analyse", "analyse", "report.costs:costs_of_files"),
        run_record="<results>/report/run.json",
        benchmarks=BENCHMARKS,
    output:
        "<results>/report/costs.csv",
    log:
        "<logs>/record_costs.log",
    benchmark:
        "<benchmarks>/record_costs.tsv"
    conda:
        "../../envs/analyse.yaml"
    params:
        listed=lambda wildcards, input: listed(
            "record_costs", config["run"], benchmarks=input.benchmarks
        ),
    shell:
        "python {input.code[0]:q} --function report.costs:costs_of_files "
        "--inputs run_record={input.run_record:q} listed={params.listed:q} "
        "--output {output:q} 2>&1 | tee {log:q}"


rule record_crate:
    """The record of the run, made last: results and inputs with SHA-256, code, configuration, machine, costs."""
    input:
        code=code("record_crate", "analyse"),
        files=[
            *DELIVERABLES,
            *INTERMEDIATE,
            *BENCHMARKS,
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
    params:
        run=subpath(output[0], parent=True),
        listed=lambda wildcards, input: listed(
            "record_crate", config["run"], files=input.files, inputs=input.sources
        ),
        models=[f"{model}={SETTINGS.directory(model)}" for model in MEASURED],
    shell:
        "python {input.code[0]:q} --run {params.run:q} --models {params.models:q} --listed {params.listed:q} "
        "2>&1 | tee {log:q}"
