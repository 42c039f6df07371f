# Not part of `all`: each table of docs/benchmark, by what measures it, the arguments of that, and its memory in MB.
FOLDED = expand("<results>/models/{model}/folded", model=MODELS)
SAMPLED = expand("<results>/tokens/{model}/tokens.parquet", model=MODELS)
BENCHMARK_RULES = {
    "methods": (
        "compare:compare_models",
        {},
        "models=gpt2-small models=pythia-160m rows=6 row_length=128 heads=4 rounds=3".split(),
        12000,
    ),
    "growth": ("growth:growth", {}, ["rounds=3"], 6000),
    "selected": (
        "selected:selected_gains",
        {"models": FOLDED, "tokens": SAMPLED},
        [
            f"top_fraction={config['analysis']['top_fraction']}",
            f"control={config['ablation']['control_tokens']}",
            *[f"seed={config['seed']}", f"shards={SHARDS}", "rounds=3"],
        ],
        6000,
    ),
    "later_heads": (
        "responders:later_heads",
        {"models": FOLDED, "tokens": SAMPLED},
        [
            f"top_fraction={config['analysis']['top_fraction']}",
            *["rows=24", "rounds=5"],
        ],
        4000,
    ),
    "precision": (
        "precision:precisions",
        {"models": FOLDED, "tokens": SAMPLED},
        ["rows=16", "random=gpt2-small", "drawn_rows=2"],
        8000,
    ),
    "loading": ("loading:loading", {}, [], 10000),
    "training": ("training:training", {}, ["steps=20", "rounds=7"], 2000),
    "costs": (
        "costs:extrapolate_costs",
        {"methods": "docs/benchmark/methods.csv"},
        [],
        1000,
    ),
    "coverage": (
        "coverage:coverages",
        {
            "model": "<results>/models/tiny-llama/folded",
            "corpus": "workflow/resources/corpora/python-stdlib/corpus.parquet",
        },
        [
            "tokenizer=workflow/resources/models/tiny-llama",
            *["rows=1600", "documents=30", "documents=80"],
            *["texts=100", "replicates=300"],
        ],
        6000,
    ),
}
BENCHMARK_TABLES = {table: [f"docs/benchmark/{table}.csv"] for table in BENCHMARK_RULES}
BENCHMARK_TABLES["methods"].append("docs/benchmark/machine.csv")

for table, (function, files, texts, memory) in BENCHMARK_RULES.items():

    rule:
        """Measure a table of the benchmark; `docs/benchmark.md` says what it holds."""
        name:
            f"benchmark_{table}"
        input:
            **files,
            code=code("benchmark", "measure", f"benchmark.{function}"),
        output:
            BENCHMARK_TABLES[table],
        log:
            f"<logs>/benchmark_{table}.log",
        benchmark:
            f"<benchmarks>/benchmark_{table}.tsv"
        conda:
            "../../envs/measure.yaml"
        threads: lambda wildcards: workflow.cores
        resources:
            mem_mb=memory,
            runtime=120,
        params:
            function=f"benchmark.{function}",
            inputs=arguments(files, texts),
        shell:
            "python {input.code[0]:q} --function {params.function:q} --threads {threads} --output {output:q} "
            "--inputs {params.inputs:q} 2>&1 | tee {log:q}"


rule benchmark:
    """The benchmark's page. Not part of `all`."""
    input:
        code=code("benchmark_page", "measure"),
        methods="docs/benchmark/methods.csv",
        tables=[file for files in BENCHMARK_TABLES.values() for file in files],
    output:
        "docs/benchmark.md",
    log:
        "<logs>/benchmark.log",
    benchmark:
        "<benchmarks>/benchmark.tsv"
    conda:
        "../../envs/measure.yaml"
    params:
        tables=subpath(input.methods, parent=True),
    shell:
        "python {input.code[0]:q} --tables {params.tables:q} --output {output:q} 2>&1 | tee {log:q}"


rule estimate:
    """About how long the run takes, and in how much memory, from a row of each model. Not part of `all`."""
    input:
        code=code("estimate", "measure"),
        models=ancient(expand("<results>/models/{model}/folded", model=MEASURED)),
        tokens=expand("<results>/tokens/{model}/tokens.parquet", model=MEASURED),
        clean=expand("<results>/ablation/{model}/clean/tokens.parquet", model=MEASURED),
    output:
        "<logs>/estimate.txt",
    log:
        "<logs>/estimate.log",
    benchmark:
        "<benchmarks>/estimate.tsv"
    conda:
        "../../envs/measure.yaml"
    resources:
        **MEASURING | {"mem_mb": max(map(SETTINGS.memory_mb, MEASURED))},
    params:
        sampled=expand(f"{RESULTS}/tokens/{{model}}", model=MEASURED),
        clean=expand(f"{RESULTS}/ablation/{{model}}/clean", model=MEASURED),
        measured=[
            f"{m}={'units-' * (a == 'units')}{SETTINGS.measure(a)}"
            for m, a, s in SHARDED
            if s == 0
        ],
        study_rows=config["experiments"]["study_rows"],
        distribution_rows=config["experiments"]["distribution_rows"]
        * len(config["experiments"]["distributions"]),
        heads=[f"{m}={head}" for m in MEASURED for head in SETTINGS.heads(m)],
        jobs=len(BENCHMARKS),
        cores=workflow.cores,
    shell:
        "python {input.code[0]:q} --models {input.models:q} --sampled {params.sampled:q} --clean {params.clean:q} "
        "--measured {params.measured} --heads {params.heads} --study-rows {params.study_rows} "
        "--distribution-rows {params.distribution_rows} --jobs {params.jobs} --cores {params.cores} "
        "--memory-mb {resources.mem_mb} --device {resources.device} --memory {resources.memory} --output {output:q} 2>&1 | tee {log:q}"
