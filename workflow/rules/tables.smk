TABLE_RULES = {
    "models": (
        "tables:table_of_models",
        "models_csv",
        f"{RESULTS}/analysis/models.csv",
    ),
    "layers": (
        "tables:table_of_layers",
        "layers_of_models",
        f"{OF_MODEL}/resample/layers.parquet",
    ),
    "heads": (
        "tables:table_of_heads",
        "heads_of_models",
        f"{OF_MODEL}/resample/heads.parquet",
    ),
    "norm": ("norm_table:norm", "table_of_models", f"{OF_ABLATION}/norm.parquet"),
    "erasure_neurons": (
        "tables:erasure_neurons",
        "erasure",
        f"{OF_MODEL}/neurons/erasure.parquet",
    ),
}
if SETTINGS.config["studies"]:
    TABLE_RULES["claims_of_studies"] = (
        "claims_table:claims_of_studies",
        "studies",
        SETTINGS.of_studies("report/claims.json"),
    )
if SETTINGS.family("arms"):
    TABLE_RULES["features"] = (
        "arms:table_of_arms",
        "differences",
        SETTINGS.family("differences"),
    )
TABLE_ARGUMENTS = {
    table: (function, {argument: every(file)})
    for table, (function, argument, file) in TABLE_RULES.items()
} | {
    "findings": (
        "findings:table_of_findings",
        {
            "studies": "config/studies.yaml",
            "findings": [
                file for study in OF_STUDIES for file in beyond(study, "findings")
            ],
        },
    )
}

TABLES = [*TABLE_ARGUMENTS, "claims"]

for table, (function, tables) in TABLE_ARGUMENTS.items():

    rule:
        """Write a table as LaTeX and CSV; `workflow/report/captions.yaml` says of each what it shows."""
        name:
            f"table_{table}"
        input:
            **tables,
            code=code("table", "analyse", f"report.{function}"),
        output:
            tex=f"<results>/tables/{table}.tex",
            csv=shown(f"<results>/tables/{table}.csv"),
        log:
            f"<logs>/table_{table}.log",
        benchmark:
            f"<benchmarks>/table_{table}.tsv"
        conda:
            "../../envs/analyse.yaml"
        params:
            function=f"report.{function}",
            inputs=arguments(tables),
        shell:
            "python {input.code[0]:q} --function {params.function:q} --inputs {params.inputs:q} --tex {output.tex:q} "
            "--csv {output.csv:q} 2>&1 | tee {log:q}"
