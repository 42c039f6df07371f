rule benchmark_methods:
    """Time and memory of the sweep beside patching one head at a time, and how far their results differ."""
    input:
        code=code("benchmark_methods", "measure"),
    output:
        methods="docs/benchmark/methods.csv",
        machine="docs/benchmark/machine.csv",
    log:
        "<logs>/benchmark_methods.log",
    benchmark:
        "<benchmarks>/benchmark_methods.tsv"
    conda:
        "../../envs/measure.yaml"
    threads: lambda wildcards: workflow.cores
    resources:
        mem_mb=12000,
        runtime=120,
    params:
        models=["gpt2-small", "pythia-160m"],
        rows=6,
        row_length=128,
        heads=4,
        rounds=3,
    shell:
        "python {input.code[0]} --models {params.models} --rows {params.rows} --row-length {params.row_length} "
        "--heads {params.heads} --rounds {params.rounds} --threads {threads} --methods-output {output.methods} "
        "--machine-output {output.machine} 2>&1 | tee {log}"


rule benchmark_growth:
    """How the cost of the sweep grows with layers, heads, tokens and the length of rows."""
    input:
        code=code("benchmark_growth", "measure"),
    output:
        "docs/benchmark/growth.csv",
    log:
        "<logs>/benchmark_growth.log",
    benchmark:
        "<benchmarks>/benchmark_growth.tsv"
    conda:
        "../../envs/measure.yaml"
    threads: lambda wildcards: workflow.cores
    resources:
        mem_mb=6000,
        runtime=60,
    params:
        rounds=3,
    shell:
        "python {input.code[0]} --rounds {params.rounds} --threads {threads} --output {output} 2>&1 | tee {log}"


rule benchmark_selected:
    """Time of measuring only selected tokens beside that of measuring all, on this run's models and tokens."""
    input:
        code=code("benchmark_selected", "measure"),
        models=expand("<results>/models/{model}/folded", model=MODELS),
        tokens=expand("<results>/tokens/{model}/tokens.parquet", model=MODELS),
    output:
        "docs/benchmark/selected.csv",
    log:
        "<logs>/benchmark_selected.log",
    benchmark:
        "<benchmarks>/benchmark_selected.tsv"
    conda:
        "../../envs/measure.yaml"
    threads: lambda wildcards: workflow.cores
    resources:
        mem_mb=6000,
        runtime=60,
    params:
        sampled=lambda wildcards, input: [
            file.rsplit("/", 1)[0] for file in input.tokens
        ],
        top_fraction=config["analysis"]["top_fraction"],
        control=config["ablation"]["control_tokens"],
        seed=config["seed"],
        shards=SHARDS,
        rounds=3,
    shell:
        "python {input.code[0]} --models {input.models} --sampled {params.sampled} "
        "--top-fraction {params.top_fraction} --control {params.control} --seed {params.seed} --shards {params.shards} "
        "--rounds {params.rounds} --threads {threads} --output {output} 2>&1 | tee {log}"


rule benchmark_precision:
    """Errors of lower precision against float64, on this run's models and on one of random weights."""
    input:
        code=code("benchmark_precision", "measure"),
        models=expand("<results>/models/{model}/folded", model=MODELS),
        tokens=expand("<results>/tokens/{model}/tokens.parquet", model=MODELS),
    output:
        "docs/benchmark/precision.csv",
    log:
        "<logs>/benchmark_precision.log",
    benchmark:
        "<benchmarks>/benchmark_precision.tsv"
    conda:
        "../../envs/measure.yaml"
    threads: lambda wildcards: workflow.cores
    resources:
        mem_mb=8000,
        runtime=60,
    params:
        rows=16,
        random="gpt2-small",
        random_rows=2,
    shell:
        "python {input.code[0]} --models {input.models} --tokens {input.tokens} --rows {params.rows} "
        "--random {params.random} --random-rows {params.random_rows} --threads {threads} --output {output} "
        "2>&1 | tee {log}"


rule benchmark_loading:
    """Memory of folding and loading a large model with random weights."""
    input:
        code=code("benchmark_loading", "measure"),
    output:
        "docs/benchmark/loading.csv",
    log:
        "<logs>/benchmark_loading.log",
    benchmark:
        "<benchmarks>/benchmark_loading.tsv"
    conda:
        "../../envs/measure.yaml"
    threads: lambda wildcards: workflow.cores
    resources:
        mem_mb=10000,
        runtime=60,
    shell:
        "python {input.code[0]} --output {output} 2>&1 | tee {log}"


rule benchmark_costs:
    """Extrapolated time and memory of one million tokens for each of the paper's models."""
    input:
        code=code("benchmark_costs", "measure"),
        methods="docs/benchmark/methods.csv",
    output:
        "docs/benchmark/costs.csv",
    log:
        "<logs>/benchmark_costs.log",
    benchmark:
        "<benchmarks>/benchmark_costs.tsv"
    conda:
        "../../envs/measure.yaml"
    resources:
        mem_mb=1000,
        runtime=5,
    shell:
        "python {input.code[0]} --methods {input.methods} --output {output} 2>&1 | tee {log}"


rule benchmark:
    """The benchmark's page and the README's table. Not part of `all`."""
    input:
        code=code("benchmark", "measure"),
        machine="docs/benchmark/machine.csv",
        methods="docs/benchmark/methods.csv",
        selected="docs/benchmark/selected.csv",
        growth="docs/benchmark/growth.csv",
        precision="docs/benchmark/precision.csv",
        loading="docs/benchmark/loading.csv",
        costs="docs/benchmark/costs.csv",
    output:
        page="docs/benchmark.md",
        readme=update("README.md"),
    log:
        "<logs>/benchmark.log",
    benchmark:
        "<benchmarks>/benchmark.tsv"
    conda:
        "../../envs/measure.yaml"
    resources:
        mem_mb=1000,
        runtime=5,
    params:
        tables=subpath(input.methods, parent=True),
    shell:
        "python {input.code[0]} --tables {params.tables} --page {output.page} --readme {output.readme} 2>&1 | tee {log}"
