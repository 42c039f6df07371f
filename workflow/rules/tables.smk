TABLE_RULES = {
    "models": (
        "report.tables:table_of_models",
        {"models_csv": "<results>/analysis/models.csv"},
    ),
    "layers": (
        "report.tables:table_of_layers",
        {
            "layers_of_models": expand(
                "<results>/analysis/{model}/resample/layers.parquet", model=MODELS
            )
        },
    ),
    "heads": (
        "report.tables:table_of_heads",
        {
            "heads_of_models": expand(
                "<results>/analysis/{model}/resample/heads.parquet", model=MODELS
            )
        },
    ),
    "norm": (
        "report.norm_table:norm",
        {
            "table_of_models": expand(
                "<results>/analysis/{model}/{ablation}/norm.parquet",
                model=MODELS,
                ablation=ABLATIONS,
            )
        },
    ),
    "erasure_neurons": (
        "report.tables:erasure_neurons",
        {
            "erasure": expand(
                "<results>/analysis/{model}/neurons/erasure.parquet", model=MODELS
            )
        },
    ),
}

for table, (function, tables) in TABLE_RULES.items():

    rule:
        """Write a table as LaTeX and CSV; `workflow/report/captions.yaml` says of each what it shows."""
        name:
            f"table_{table}"
        input:
            **tables,
            code=code("table", "analyse", function),
        output:
            tex=f"<results>/tables/{table}.tex",
            csv=shown(f"<results>/tables/{table}.csv"),
        log:
            f"<logs>/table_{table}.log",
        benchmark:
            f"<benchmarks>/table_{table}.tsv"
        conda:
            "../../envs/analyse.yaml"
        resources:
            mem_mb=1000,
            runtime=10,
        params:
            function=function,
            inputs=arguments(tables),
        shell:
            "python {input.code[0]:q} --function {params.function} --inputs {params.inputs:q} --tex {output.tex:q} "
            "--csv {output.csv:q} 2>&1 | tee {log:q}"
