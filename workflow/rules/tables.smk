rule model_overview:
    """Size, quality and measured tokens of every model of the run."""
    input:
        code=code("model_overview", "analyse"),
        facts=expand("<results>/models/{model}/model.json", model=MODELS),
        heads=expand("<results>/analysis/{model}/resample/heads.parquet", model=MODELS),
        summaries=list(TRAINING_SUMMARIES.values()),
    output:
        "<results>/analysis/models.csv",
    log:
        "<logs>/model_overview.log",
    benchmark:
        "<benchmarks>/model_overview.tsv"
    conda:
        "../../envs/analyse.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        summaries=[f"{name}={path}" for name, path in TRAINING_SUMMARIES.items()],
    shell:
        "python {input.code[0]:q} --model-facts {input.facts:q} --heads {input.heads:q} --summaries {params.summaries:q} "
        "--output {output:q} 2>&1 | tee {log:q}"


rule table_models:
    """The models of the run as LaTeX and CSV."""
    input:
        code=code("table_models", "analyse"),
        models="<results>/analysis/models.csv",
    output:
        tex="<results>/tables/models.tex",
        csv=shown("<results>/tables/models.csv"),
    log:
        "<logs>/table_models.log",
    benchmark:
        "<benchmarks>/table_models.tsv"
    conda:
        "../../envs/analyse.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    shell:
        "python {input.code[0]:q} --models {input.models:q} --tex {output.tex:q} --csv {output.csv:q} 2>&1 | tee {log:q}"


rule table_layers:
    """Self-repair of each layer and its split, all models, as LaTeX and CSV."""
    input:
        code=code("table_layers", "analyse"),
        layers=expand(
            "<results>/analysis/{model}/resample/layers.parquet", model=MODELS
        ),
    output:
        tex="<results>/tables/layers.tex",
        csv=shown("<results>/tables/layers.csv"),
    log:
        "<logs>/table_layers.log",
    benchmark:
        "<benchmarks>/table_layers.tsv"
    conda:
        "../../envs/analyse.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    shell:
        "python {input.code[0]:q} --layers {input.layers:q} --tex {output.tex:q} --csv {output.csv:q} 2>&1 | tee {log:q}"


rule table_heads:
    """The heads with the largest direct effects, all models, as LaTeX and CSV."""
    input:
        code=code("table_heads", "analyse"),
        heads=expand("<results>/analysis/{model}/resample/heads.parquet", model=MODELS),
    output:
        tex="<results>/tables/heads.tex",
        csv=shown("<results>/tables/heads.csv"),
    log:
        "<logs>/table_heads.log",
    benchmark:
        "<benchmarks>/table_heads.tsv"
    conda:
        "../../envs/analyse.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    shell:
        "python {input.code[0]:q} --heads {input.heads:q} --tex {output.tex:q} --csv {output.csv:q} 2>&1 | tee {log:q}"


rule table_norm:
    """The norm's part of self-repair by three accountings, all models, as LaTeX and CSV."""
    input:
        code=code("table_norm", "analyse"),
        norm=expand(
            "<results>/analysis/{model}/{ablation}/norm.parquet",
            model=MODELS,
            ablation=ABLATIONS,
        ),
    output:
        tex="<results>/tables/norm.tex",
        csv=shown("<results>/tables/norm.csv"),
    log:
        "<logs>/table_norm.log",
    benchmark:
        "<benchmarks>/table_norm.tsv"
    conda:
        "../../envs/analyse.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    shell:
        "python {input.code[0]:q} --norm {input.norm:q} --tex {output.tex:q} --csv {output.csv:q} 2>&1 | tee {log:q}"
