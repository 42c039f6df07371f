rule check_claims:
    """Verdicts on the paper's claims, as JSON, LaTeX and CSV."""
    input:
        code=code("check_claims", "analyse"),
        claims="config/claims.yaml",
        schema="workflow/schemas/claims.schema.yaml",
        models="<results>/analysis/models.csv",
        heads=expand("<results>/analysis/{model}/resample/heads.parquet", model=MODELS),
        layers=expand(
            "<results>/analysis/{model}/resample/layers.parquet", model=MODELS
        ),
    output:
        json="<results>/report/claims.json",
        tex="<results>/tables/claims.tex",
        csv="<results>/tables/claims.csv",
    log:
        "<logs>/check_claims.log",
    benchmark:
        "<benchmarks>/check_claims.tsv"
    conda:
        "../../envs/analyse.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    shell:
        "python {input.code[0]} --claims {input.claims} --schema {input.schema} --models {input.models} "
        "--heads {input.heads} --layers {input.layers} --json {output.json} --tex {output.tex} --csv {output.csv} "
        "2>&1 | tee {log}"


rule write_report:
    """One self-contained page: run, models, claims, figures and costs."""
    input:
        code=code("write_report", "analyse"),
        template="src/selfrepair/templates/report.html.j2",
        captions="workflow/report/captions.yaml",
        record="<results>/report/run.json",
        models="<results>/analysis/models.csv",
        claims="<results>/report/claims.json",
        figures=expand("<results>/figures/{figure}.svg", figure=FIGURES),
        benchmarks=[
            *expand("<benchmarks>/sample_tokens.{model}.tsv", model=MODELS),
            *expand("<benchmarks>/fold_model.{model}.tsv", model=MODELS),
            *expand("<benchmarks>/measure_clean.{model}.tsv", model=MODELS),
            *expand(
                "<benchmarks>/ablate_heads.{model}.{ablation}.{shard}.tsv",
                model=MODELS,
                ablation=ABLATIONS,
                shard=range(SHARDS),
            ),
            *expand(
                "<benchmarks>/summarise_heads.{model}.{ablation}.tsv",
                model=MODELS,
                ablation=ABLATIONS,
            ),
        ],
    output:
        "<results>/report/report.html",
    log:
        "<logs>/write_report.log",
    benchmark:
        "<benchmarks>/write_report.tsv"
    conda:
        "../../envs/analyse.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    shell:
        "python {input.code[0]} --run-record {input.record} --models {input.models} --claims {input.claims} "
        "--captions {input.captions} --figures {input.figures} --benchmarks {input.benchmarks} --output {output} "
        "2>&1 | tee {log}"
