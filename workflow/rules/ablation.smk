rule measure_clean:
    """One clean pass over all tokens: exact top tokens of every head, control sample, mean activations."""
    input:
        code=code("measure_clean", "measure"),
        model=ancient("<results>/models/{model}/folded"),
        facts="<results>/models/{model}/model.json",
        tokens="<results>/tokens/{model}/tokens.parquet",
    output:
        tokens="<results>/ablation/{model}/clean/tokens.parquet",
        selected="<results>/ablation/{model}/clean/selected.parquet",
        means="<results>/ablation/{model}/clean/means.safetensors",
    log:
        "<logs>/measure_clean.{model}.log",
    benchmark:
        "<benchmarks>/measure_clean.{model}.tsv"
    conda:
        "../../envs/measure.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: SETTINGS.memory_mb(wildcards.model, attempt),
        gpu=SETTINGS.gpus,
        runtime=60,
    params:
        top_fraction=config["analysis"]["top_fraction"],
        control=config["ablation"]["control_tokens"],
        seed=config["seed"],
        measure=config["ablation"]["measure"],
        device=config["device"],
        folder=subpath(output.tokens, parent=True),
    shell:
        "python {input.code[0]} --model {input.model} --tokens {input.tokens} --top-fraction {params.top_fraction} "
        "--control {params.control} --measure {params.measure} --seed {params.seed} --device {params.device} "
        "--threads {threads} --output {params.folder} 2>&1 | tee {log}"


rule ablate_heads:
    """Ablate every head, one at a time, in a shard of the rows; the exact split of self-repair on every token."""
    input:
        code=code("ablate_heads", "measure"),
        model=ancient("<results>/models/{model}/folded"),
        facts="<results>/models/{model}/model.json",
        tokens="<results>/tokens/{model}/tokens.parquet",
        rows="<results>/tokens/{model}/rows.parquet",
        clean="<results>/ablation/{model}/clean/tokens.parquet",
        selected="<results>/ablation/{model}/clean/selected.parquet",
        means="<results>/ablation/{model}/clean/means.safetensors",
    output:
        tokens="<results>/ablation/{model}/{ablation}/tokens-{shard}.parquet",
        sums="<results>/ablation/{model}/{ablation}/sums-{shard}.parquet",
    log:
        "<logs>/ablate_heads.{model}.{ablation}.{shard}.log",
    benchmark:
        "<benchmarks>/ablate_heads.{model}.{ablation}.{shard}.tsv"
    conda:
        "../../envs/measure.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: SETTINGS.memory_mb(wildcards.model, attempt),
        gpu=SETTINGS.gpus,
        runtime=240,
    params:
        sampled=subpath(input.tokens, parent=True),
        clean=subpath(input.clean, parent=True),
        heads=lambda wildcards: SETTINGS.heads(wildcards.model),
        shards=SHARDS,
        measure=config["ablation"]["measure"],
        device=config["device"],
        memory=config.get("memory", "auto"),
    shell:
        "python {input.code[0]} --model {input.model} --sampled {params.sampled} --clean {params.clean} "
        "--ablation {wildcards.ablation} --heads {params.heads} --shard {wildcards.shard} --shards {params.shards} "
        "--measure {params.measure} --device {params.device} --memory {params.memory} "
        "--limit {resources.mem_mb} "
        "--threads {threads} --tokens-output {output.tokens} --sums-output {output.sums} "
        "2>&1 | tee {log}"
