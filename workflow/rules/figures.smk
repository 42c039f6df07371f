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
        figure_files("self_repair_by_depth.{ablation}"),
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


rule figure_as_published:
    """Self-repair of each head in the authors' units for Llama, to be set beside the published curve."""
    input:
        code=code("figure_self_repair_by_depth", "draw"),
        heads=expand(
            "<results>/analysis/{model}/resample/heads.parquet",
            model=SETTINGS.as_published,
        ),
        layers=expand(
            "<results>/analysis/{model}/resample/layers.parquet",
            model=SETTINGS.as_published,
        ),
    output:
        figure_files("as_published"),
    log:
        "<logs>/figure_as_published.log",
    benchmark:
        "<benchmarks>/figure_as_published.tsv"
    conda:
        "../../envs/draw.yaml"
    resources:
        mem_mb=1500,
        runtime=10,
    params:
        unit="not logits: mixed, as published",
    shell:
        "python {input.code[0]:q} --heads {input.heads:q} --layers {input.layers:q} --unit {params.unit:q} "
        "--output {output:q} 2>&1 | tee {log:q}"


rule figure_effect_scatter:
    """Direct effect of each head against the change of the logit on ablation, one model."""
    input:
        code=code("figure_effect_scatter", "draw"),
        heads="<results>/analysis/{model}/{ablation}/heads.parquet",
    output:
        figure_files("effect_scatter.{model}.{ablation}"),
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
        figure_files("repair_split.{ablation}"),
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
        figure_files("repair_share.{ablation}"),
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
        figure_files("responders.{ablation}"),
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
        figure_files("training_loss"),
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


rule figure_layer_moving:
    """Exploratory: skipping a layer against ablating its strongest head, all models."""
    input:
        code=code("figure_layer_moving", "draw"),
        moving=expand(
            "<results>/analysis/{model}/iterative/moving.parquet", model=MODELS
        ),
    output:
        figure_files("layer_moving"),
    log:
        "<logs>/figure_layer_moving.log",
    benchmark:
        "<benchmarks>/figure_layer_moving.tsv"
    conda:
        "../../envs/draw.yaml"
    resources:
        mem_mb=1500,
        runtime=10,
    shell:
        "python {input.code[0]:q} --moving {input.moving:q} --output {output:q} 2>&1 | tee {log:q}"


rule figure_self_repression:
    """Exploratory: heads whose own output is already in what they read, all models."""
    input:
        code=code("figure_self_repression", "draw"),
        repression=expand(
            "<results>/analysis/{model}/iterative/repression.parquet", model=MODELS
        ),
    output:
        figure_files("self_repression"),
    log:
        "<logs>/figure_self_repression.log",
    benchmark:
        "<benchmarks>/figure_self_repression.tsv"
    conda:
        "../../envs/draw.yaml"
    resources:
        mem_mb=1500,
        runtime=10,
    shell:
        "python {input.code[0]:q} --repression {input.repression:q} --output {output:q} 2>&1 | tee {log:q}"


rule figure_repair_by_depth:
    """Self-repair and its parts against relative depth, all models together, in logits and as shares."""
    input:
        code=code("figure_repair_by_depth", "draw"),
        layers=expand(
            "<results>/analysis/{model}/{{ablation}}/layers.parquet", model=MODELS
        ),
    output:
        figure_files("repair_by_depth.{ablation}"),
    log:
        "<logs>/figure_repair_by_depth.{ablation}.log",
    benchmark:
        "<benchmarks>/figure_repair_by_depth.{ablation}.tsv"
    conda:
        "../../envs/draw.yaml"
    resources:
        mem_mb=1500,
        runtime=10,
    shell:
        "python {input.code[0]:q} --layers {input.layers:q} --output {output:q} 2>&1 | tee {log:q}"


rule figure_repair_breakdown:
    """Parts of self-repair beside the direct effect before and after ablation, per layer."""
    input:
        code=code("figure_repair_breakdown", "draw"),
        layers=expand(
            "<results>/analysis/{model}/{{ablation}}/layers.parquet", model=MODELS
        ),
    output:
        figure_files("repair_breakdown.{ablation}"),
    log:
        "<logs>/figure_repair_breakdown.{ablation}.log",
    benchmark:
        "<benchmarks>/figure_repair_breakdown.{ablation}.tsv"
    conda:
        "../../envs/draw.yaml"
    resources:
        mem_mb=1500,
        runtime=10,
    shell:
        "python {input.code[0]:q} --layers {input.layers:q} --output {output:q} 2>&1 | tee {log:q}"


rule figure_norm_scale:
    """Ratio of the final norm's clean and ablated scale on single tokens, for heads of the last layer."""
    input:
        code=code("figure_norm_scale", "draw"),
        norm=expand(
            "<results>/analysis/{{model}}/{ablation}/norm.parquet", ablation=ABLATIONS
        ),
        histograms=expand(
            "<results>/analysis/{{model}}/{ablation}/norm_histogram.parquet",
            ablation=ABLATIONS,
        ),
        heads="<results>/analysis/{model}/resample/heads.parquet",
        chosen="<results>/analysis/{model}/chosen_heads.csv",
    output:
        figure_files("norm_scale.{model}"),
    log:
        "<logs>/figure_norm_scale.{model}.log",
    benchmark:
        "<benchmarks>/figure_norm_scale.{model}.tsv"
    conda:
        "../../envs/draw.yaml"
    resources:
        mem_mb=1500,
        runtime=10,
    shell:
        "python {input.code[0]:q} --norm {input.norm:q} --histograms {input.histograms:q} --heads {input.heads:q} "
        "--chosen {input.chosen:q} --output {output:q} 2>&1 | tee {log:q}"


rule figure_ablation_types:
    """Single tokens of a head of the last layer under each kind of ablation."""
    input:
        code=code("figure_ablation_types", "draw"),
        tokens=expand(
            "<results>/ablation/{{model}}/{ablation}/tokens-{shard}.parquet",
            ablation=ABLATIONS,
            shard=range(SHARDS),
        ),
        heads="<results>/analysis/{model}/resample/heads.parquet",
    output:
        figure_files("ablation_types.{model}"),
    log:
        "<logs>/figure_ablation_types.{model}.log",
    benchmark:
        "<benchmarks>/figure_ablation_types.{model}.tsv"
    conda:
        "../../envs/draw.yaml"
    resources:
        mem_mb=1500,
        runtime=10,
    params:
        tokens=lambda wildcards, input: [
            f"{file.split('/')[-2]}={file}" for file in input.tokens
        ],
    shell:
        "python {input.code[0]:q} --model {wildcards.model:q} --tokens {params.tokens:q} --heads {input.heads:q} "
        "--output {output:q} 2>&1 | tee {log:q}"


rule figure_noise:
    """Single tokens of chosen heads, with rates of overcorrection."""
    input:
        code=code("figure_noise", "draw"),
        tokens=expand(
            "<results>/ablation/{{model}}/resample/tokens-{shard}.parquet",
            shard=range(SHARDS),
        ),
        chosen="<results>/analysis/{model}/chosen_heads.csv",
        noise="<results>/analysis/{model}/noise.parquet",
    output:
        figure_files("noise.{model}"),
    log:
        "<logs>/figure_noise.{model}.log",
    benchmark:
        "<benchmarks>/figure_noise.{model}.tsv"
    conda:
        "../../envs/draw.yaml"
    resources:
        mem_mb=1500,
        runtime=10,
    shell:
        "python {input.code[0]:q} --model {wildcards.model:q} --tokens {input.tokens:q} --chosen {input.chosen:q} "
        "--noise {input.noise:q} --output {output:q} 2>&1 | tee {log:q}"


rule figure_noise_components:
    """Where the variance of self-repair comes from: documents, tokens, or partners."""
    input:
        code=code("figure_noise_components", "draw"),
        noise=expand("<results>/analysis/{model}/noise.parquet", model=MODELS),
    output:
        figure_files("noise_components"),
    log:
        "<logs>/figure_noise_components.log",
    benchmark:
        "<benchmarks>/figure_noise_components.tsv"
    conda:
        "../../envs/draw.yaml"
    resources:
        mem_mb=1500,
        runtime=10,
    shell:
        "python {input.code[0]:q} --noise {input.noise:q} --output {output:q} 2>&1 | tee {log:q}"
