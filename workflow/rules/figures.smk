rule figure_self_repair_by_depth:
    """Self-repair of each head against relative depth, all models (the paper's Figure 1)."""
    input:
        code=code("figure_self_repair_by_depth", "draw"),
        heads=expand(
            "<results>/analysis/{model}/{{ablation}}/heads.parquet", model=MODELS
        ),
        layers=expand(
            "<results>/analysis/{model}/{{ablation}}/layers.parquet", model=MODELS
        ),
    output:
        expand(
            "<results>/figures/self_repair_by_depth.{{ablation}}.{suffix}",
            suffix=FIGURE_SUFFIXES,
        ),
    log:
        "<logs>/figure_self_repair_by_depth.{ablation}.log",
    benchmark:
        "<benchmarks>/figure_self_repair_by_depth.{ablation}.tsv"
    conda:
        "../../envs/draw.yaml"
    resources:
        mem_mb=1500,
        runtime=10,
    shell:
        "python {input.code[0]:q} --heads {input.heads:q} --layers {input.layers:q} --output {output:q} 2>&1 | tee {log:q}"


rule figure_effect_scatter:
    """Direct effect of each head against the change of the logit on ablation, one model."""
    input:
        code=code("figure_effect_scatter", "draw"),
        heads="<results>/analysis/{model}/{ablation}/heads.parquet",
    output:
        expand(
            "<results>/figures/effect_scatter.{{model}}.{{ablation}}.{suffix}",
            suffix=FIGURE_SUFFIXES,
        ),
    log:
        "<logs>/figure_effect_scatter.{model}.{ablation}.log",
    benchmark:
        "<benchmarks>/figure_effect_scatter.{model}.{ablation}.tsv"
    conda:
        "../../envs/draw.yaml"
    resources:
        mem_mb=1500,
        runtime=10,
    shell:
        "python {input.code[0]:q} --heads {input.heads:q} --output {output:q} 2>&1 | tee {log:q}"


rule figure_repair_split:
    """What repairs the heads of each layer: final norm, later attention and MLPs, in logits."""
    input:
        code=code("figure_repair_split", "draw"),
        layers=expand(
            "<results>/analysis/{model}/{{ablation}}/layers.parquet", model=MODELS
        ),
    output:
        expand(
            "<results>/figures/repair_split.{{ablation}}.{suffix}",
            suffix=FIGURE_SUFFIXES,
        ),
    log:
        "<logs>/figure_repair_split.{ablation}.log",
    benchmark:
        "<benchmarks>/figure_repair_split.{ablation}.tsv"
    conda:
        "../../envs/draw.yaml"
    resources:
        mem_mb=1500,
        runtime=10,
    shell:
        "python {input.code[0]:q} --layers {input.layers:q} --output {output:q} 2>&1 | tee {log:q}"


rule figure_repair_share:
    """Self-repair and its parts as shares of the direct effect, as ratio of sums and clipped per token."""
    input:
        code=code("figure_repair_share", "draw"),
        layers=expand(
            "<results>/analysis/{model}/{{ablation}}/layers.parquet", model=MODELS
        ),
    output:
        expand(
            "<results>/figures/repair_share.{{ablation}}.{suffix}",
            suffix=FIGURE_SUFFIXES,
        ),
    log:
        "<logs>/figure_repair_share.{ablation}.log",
    benchmark:
        "<benchmarks>/figure_repair_share.{ablation}.tsv"
    conda:
        "../../envs/draw.yaml"
    resources:
        mem_mb=1500,
        runtime=10,
    shell:
        "python {input.code[0]:q} --layers {input.layers:q} --output {output:q} 2>&1 | tee {log:q}"


rule figure_responders:
    """Who repairs whom: response of later layers to ablating the heads of each layer."""
    input:
        code=code("figure_responders", "draw"),
        responders=expand(
            "<results>/analysis/{model}/{{ablation}}/responders.parquet", model=MODELS
        ),
    output:
        expand(
            "<results>/figures/responders.{{ablation}}.{suffix}",
            suffix=FIGURE_SUFFIXES,
        ),
    log:
        "<logs>/figure_responders.{ablation}.log",
    benchmark:
        "<benchmarks>/figure_responders.{ablation}.tsv"
    conda:
        "../../envs/draw.yaml"
    resources:
        mem_mb=1500,
        runtime=10,
    shell:
        "python {input.code[0]:q} --responders {input.responders:q} --output {output:q} 2>&1 | tee {log:q}"


rule figure_training_loss:
    """Training curves of the shipped models, with their final loss and that of a bigram model."""
    input:
        code=code("figure_training_loss", "draw"),
        logs=TRAINING_LOGS.values(),
        summaries=TRAINING_SUMMARIES.values(),
    output:
        expand("<results>/figures/training_loss.{suffix}", suffix=FIGURE_SUFFIXES),
    log:
        "<logs>/figure_training_loss.log",
    benchmark:
        "<benchmarks>/figure_training_loss.tsv"
    conda:
        "../../envs/draw.yaml"
    resources:
        mem_mb=1500,
        runtime=10,
    params:
        logs=[f"{name}={path}" for name, path in TRAINING_LOGS.items()],
        summaries=[f"{name}={path}" for name, path in TRAINING_SUMMARIES.items()],
    shell:
        "python {input.code[0]:q} --logs {params.logs:q} --summaries {params.summaries:q} --output {output:q} "
        "2>&1 | tee {log:q}"
