rule build_corpus:
    """Build the shipped corpus anew from the Python that runs the rule (not part of a run)."""
    input:
        code=code("build_corpus", "train"),
    output:
        "results/built/python-stdlib.parquet",
    log:
        "results/built/logs/build_corpus.log",
    benchmark:
        "results/built/benchmarks/build_corpus.tsv"
    conda:
        "../../envs/train.yaml"
    shell:
        "python {input.code[0]} --output {output} 2>&1 | tee {log}"


rule fetch_corpus:
    """Download the training split of a hub's data set at a commit, checked by the lock."""
    input:
        code=code("fetch_corpus", "measure"),
    output:
        corpus="results/hub/corpora/{corpus}.parquet",
        record="results/hub/records/corpora/{corpus}.json",
    log:
        "results/hub/logs/fetch_corpus.{corpus}.log",
    benchmark:
        "results/hub/benchmarks/fetch_corpus.{corpus}.tsv"
    localrule: True
    conda:
        "../../envs/measure.yaml"
    params:
        hub=lookup(within=config, dpath="corpora/{corpus}/hub"),
        revision=lookup(within=config, dpath="corpora/{corpus}/revision", default=""),
        resolve=lookup(within=config, dpath="corpora/{corpus}/resolve", default="main"),
        lock=HUB_LOCK,  # no input: a fetch fills in its own entry
    shell:
        "HF_HUB_OFFLINE=0 python {input.code[0]} --name {wildcards.corpus} --hub {params.hub} "
        "--revision={params.revision} --resolve {params.resolve:q} --lock {params.lock} --output {output.corpus} "
        "--record {output.record} 2>&1 | tee {log}"


rule sample_tokens:
    """Rows of tokens of a model's own tokenizer, and the pairing of rows for resampling."""
    input:
        code=code("sample_tokens", "measure"),
        corpus=SETTINGS.corpus_file,
        tokenizer=lambda wildcards: SETTINGS.tokenizer_files(wildcards.model),
    output:
        tokens="<results>/tokens/{model}/tokens.parquet",
        rows="<results>/tokens/{model}/rows.parquet",
        documents="<results>/tokens/{model}/documents.parquet",
    log:
        "<logs>/sample_tokens.{model}.log",
    benchmark:
        "<benchmarks>/sample_tokens.{model}.tsv"
    conda:
        "../../envs/measure.yaml"
    resources:
        mem_mb=3000,
    params:
        sha256=SETTINGS.corpus.get("sha256", ""),
        text=SETTINGS.corpus["text"],
        split=config["tokens"].get("split", ""),
        kinds=config["tokens"].get("kinds", []),
        prompts=config["tokens"].get("prompts", ""),
        directory=lambda wildcards: SETTINGS.tokenizer_directory(wildcards.model),
        rows=lambda wildcards: SETTINGS.rows(wildcards.model),
        row_length=config["tokens"]["row_length"],
        seed=config["seed"],
        folder=subpath(output.tokens, parent=True),
    shell:
        "python {input.code[0]} --corpus {input.corpus:q} --sha256={params.sha256:q} --text {params.text:q} "
        "--split={params.split:q} --kinds {params.kinds:q} --prompts={params.prompts} "
        "--tokenizer {params.directory:q} --rows {params.rows} --row-length {params.row_length} --seed {params.seed} "
        "--output {params.folder} 2>&1 | tee {log}"
