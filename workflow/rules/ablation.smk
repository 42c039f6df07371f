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
        device=config["device"],
        runtime=60,
    params:
        top_fraction=config["analysis"]["top_fraction"],
        control=config["ablation"]["control_tokens"],
        seed=config["seed"],
        measure=config["ablation"]["measure"],
        folder=subpath(output.tokens, parent=True),
    shell:
        "python {input.code[0]} --model {input.model} --tokens {input.tokens} --top-fraction {params.top_fraction} "
        "--control {params.control} --measure {params.measure} --seed {params.seed} --device {resources.device} "
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
        device=config["device"],
        memory=config["memory"],
        runtime=240,
    params:
        sampled=subpath(input.tokens, parent=True),
        clean=subpath(input.clean, parent=True),
        heads=lambda wildcards: SETTINGS.heads(wildcards.model),
        shards=SHARDS,
        measure=config["ablation"]["measure"],
    shell:
        "python {input.code[0]} --model {input.model} --sampled {params.sampled} --clean {params.clean} "
        "--ablation {wildcards.ablation} --heads {params.heads} --shard {wildcards.shard} --shards {params.shards} "
        "--measure {params.measure} --device {resources.device} --memory {resources.memory} "
        "--limit {resources.mem_mb} "
        "--threads {threads} --tokens-output {output.tokens} --sums-output {output.sums} "
        "2>&1 | tee {log}"


rule measure_iterative:
    """Exploratory: layers skipped, and heads' own outputs added to what they read, one position at a time."""
    input:
        code=code("measure_iterative", "measure"),
        model=ancient("<results>/models/{model}/folded"),
        facts="<results>/models/{model}/model.json",
        tokens="<results>/tokens/{model}/tokens.parquet",
        rows="<results>/tokens/{model}/rows.parquet",
        clean="<results>/ablation/{model}/clean/tokens.parquet",
        selected="<results>/ablation/{model}/clean/selected.parquet",
    output:
        moves="<results>/ablation/{model}/iterative/moves.parquet",
        additions="<results>/ablation/{model}/iterative/additions.parquet",
    log:
        "<logs>/measure_iterative.{model}.log",
    benchmark:
        "<benchmarks>/measure_iterative.{model}.tsv"
    conda:
        "../../envs/measure.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: SETTINGS.memory_mb(wildcards.model, attempt),
        gpu=SETTINGS.gpus,
        device=config["device"],
        runtime=60,
    params:
        sampled=subpath(input.tokens, parent=True),
        clean=subpath(input.clean, parent=True),
        heads=lambda wildcards: SETTINGS.heads(wildcards.model),
        strengths=config["experiments"]["repression_scales"],
        n_tokens=config["experiments"]["repression_tokens"],
        seed=config["seed"],
        folder=subpath(output.moves, parent=True),
    shell:
        "python {input.code[0]} --model {input.model} --sampled {params.sampled} --clean {params.clean} "
        "--heads {params.heads} --strengths {params.strengths} --count {params.n_tokens} --seed {params.seed} "
        "--device {resources.device} --threads {threads} --output {params.folder} 2>&1 | tee {log}"


rule measure_partners:
    """Ablate the chosen heads in some rows once with each of several resample partners."""
    input:
        code=code("measure_partners", "measure"),
        model=ancient("<results>/models/{model}/folded"),
        facts="<results>/models/{model}/model.json",
        tokens="<results>/tokens/{model}/tokens.parquet",
        rows="<results>/tokens/{model}/rows.parquet",
        selected="<results>/ablation/{model}/clean/selected.parquet",
        heads="<results>/analysis/{model}/chosen_heads.csv",
    output:
        "<results>/ablation/{model}/partners.parquet",
    log:
        "<logs>/measure_partners.{model}.log",
    benchmark:
        "<benchmarks>/measure_partners.{model}.tsv"
    conda:
        "../../envs/measure.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: SETTINGS.memory_mb(wildcards.model, attempt),
        gpu=SETTINGS.gpus,
        device=config["device"],
        memory=config["memory"],
        runtime=120,
    params:
        sampled=subpath(input.tokens, parent=True),
        partners=config["experiments"]["partners"],
        noise_rows=config["experiments"]["noise_rows"],
        seed=config["seed"],
    shell:
        "python {input.code[0]} --model {input.model} --sampled {params.sampled} --selected {input.selected} "
        "--heads {input.heads} --partners {params.partners} --rows {params.noise_rows} --seed {params.seed} "
        "--device {resources.device} --memory {resources.memory} --limit {resources.mem_mb} "
        "--threads {threads} --output {output} 2>&1 | tee {log}"
