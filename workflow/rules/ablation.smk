rule measure_clean:
    """One clean pass over all tokens: exact top tokens of every head, control sample, mean activations."""
    input:
        **MODEL_INPUTS,
        code=code("measure_clean", "measure"),
    output:
        tokens="<results>/ablation/{model}/clean/tokens.parquet",
        candidates="<results>/ablation/{model}/clean/candidates.parquet",
        selected="<results>/ablation/{model}/clean/selected.parquet",
        units="<results>/ablation/{model}/clean/units.parquet",
        means="<results>/ablation/{model}/clean/means.safetensors",
    log:
        "<logs>/measure_clean.{model}.log",
    benchmark:
        "<benchmarks>/measure_clean.{model}.tsv"
    conda:
        "../../envs/measure.yaml"
    resources:
        **MEASURING,
    params:
        top_fraction=config["analysis"]["top_fraction"],
        control=config["ablation"]["control_tokens"],
        seed=config["seed"],
        measure=SETTINGS.measure(*ABLATIONS),
        units=config["ablation"]["units"],
        folder=subpath(output.tokens, parent=True),
    shell:
        "python {input.code[0]:q} --model {input.model:q} --tokens {input.tokens:q} "
        "--top-fraction {params.top_fraction} --control {params.control} --measure {params.measure} "
        "--units {params.units} --seed {params.seed} --device {resources.device} --threads {threads} --output {params.folder:q} "
        "2>&1 | tee {log:q}"


rule ablate_heads:
    """Ablate every head, or unit, one at a time, in a shard of the rows; the exact split of self-repair on every token."""
    input:
        **MODEL_INPUTS,
        code=code("ablate_heads", "measure"),
        rows="<results>/tokens/{model}/rows.parquet",
        clean="<results>/ablation/{model}/clean/tokens.parquet",
        candidates="<results>/ablation/{model}/clean/candidates.parquet",
        selected="<results>/ablation/{model}/clean/selected.parquet",
        units="<results>/ablation/{model}/clean/units.parquet",
        means="<results>/ablation/{model}/clean/means.safetensors",
    output:
        tokens="<results>/ablation/{model}/{ablation}/tokens-{shard}.parquet",
        sums="<results>/ablation/{model}/{ablation}/sums-{shard}.parquet",
        hand_off="<results>/ablation/{model}/{ablation}/hand_off-{shard}.parquet",
    log:
        "<logs>/ablate_heads.{model}.{ablation}.{shard}.log",
    benchmark:
        "<benchmarks>/ablate_heads.{model}.{ablation}.{shard}.tsv"
    conda:
        "../../envs/measure.yaml"
    resources:
        **MEASURING,
        runtime=240,
    params:
        sampled=subpath(input.tokens, parent=True),
        clean=subpath(input.clean, parent=True),
        heads=lambda wildcards: SETTINGS.heads(wildcards.model),
        shards=SHARDS,
        measure=lambda wildcards: SETTINGS.measure(wildcards.ablation),
        units=config["ablation"]["units"],
    shell:
        "python {input.code[0]:q} --model {input.model:q} --sampled {params.sampled:q} --clean {params.clean:q} "
        "--ablation {wildcards.ablation} --heads {params.heads} --shard {wildcards.shard} --shards {params.shards} "
        "--measure {params.measure} --units {params.units} --device {resources.device} --memory {resources.memory} "
        "--limit {resources.mem_mb} --threads {threads} --tokens-output {output.tokens:q} "
        "--sums-output {output.sums:q} --hand-off-output {output.hand_off:q} 2>&1 | tee {log:q}"


rule measure_lens:
    """The tokens whose logits each head raises and lowers most, on its top tokens."""
    input:
        **MODEL_INPUTS,
        code=code("measure_lens", "measure"),
        clean="<results>/ablation/{model}/clean/tokens.parquet",
        selected="<results>/ablation/{model}/clean/selected.parquet",
    output:
        "<results>/ablation/{model}/lens.parquet",
    log:
        "<logs>/measure_lens.{model}.log",
    benchmark:
        "<benchmarks>/measure_lens.{model}.tsv"
    conda:
        "../../envs/measure.yaml"
    resources:
        **MEASURING,
    params:
        clean=subpath(input.clean, parent=True),
    shell:
        "python {input.code[0]:q} --model {input.model:q} --tokens {input.tokens:q} --clean {params.clean:q} "
        "--device {resources.device} --threads {threads} --output {output:q} 2>&1 | tee {log:q}"


rule measure_iterative:
    """Exploratory: layers skipped, and heads' own outputs added to what they read, one position at a time."""
    input:
        **MODEL_INPUTS,
        code=code("measure_iterative", "measure"),
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
    resources:
        **MEASURING,
    params:
        sampled=subpath(input.tokens, parent=True),
        clean=subpath(input.clean, parent=True),
        heads=lambda wildcards: SETTINGS.heads(wildcards.model),
        strengths=config["experiments"]["repression_scales"],
        n_tokens=config["experiments"]["repression_tokens"],
        seed=config["seed"],
        folder=subpath(output.moves, parent=True),
    shell:
        "python {input.code[0]:q} --model {input.model:q} --sampled {params.sampled:q} --clean {params.clean:q} "
        "--heads {params.heads} --strengths {params.strengths} --count {params.n_tokens} --seed {params.seed} "
        "--device {resources.device} --threads {threads} --output {params.folder:q} 2>&1 | tee {log:q}"


rule measure_partners:
    """Ablate the chosen heads in some rows once with each of several resample partners."""
    input:
        **MODEL_INPUTS,
        code=code("measure_partners", "measure"),
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
    resources:
        **MEASURING,
        runtime=120,
    params:
        sampled=subpath(input.tokens, parent=True),
        partners=config["experiments"]["partners"],
        noise_rows=config["experiments"]["noise_rows"],
        seed=config["seed"],
    shell:
        "python {input.code[0]:q} --model {input.model:q} --sampled {params.sampled:q} --selected {input.selected:q} "
        "--heads {input.heads:q} --partners {params.partners} --rows {params.noise_rows} --seed {params.seed} "
        "--device {resources.device} --memory {resources.memory} --limit {resources.mem_mb} "
        "--threads {threads} --output {output:q} 2>&1 | tee {log:q}"


rule measure_distributions:
    """All heads on several kinds of text and of generated prompts, summed over top tokens and over answers."""
    input:
        code=code("measure_distributions", "measure"),
        model=MODEL_INPUTS["model"],
        facts=MODEL_INPUTS["facts"],
        corpus=SETTINGS.corpus_file,
        tokenizer=lambda wildcards: SETTINGS.tokenizer_files(wildcards.model),
    output:
        sums="<results>/ablation/{model}/distributions/sums.parquet",
        answers="<results>/ablation/{model}/distributions/answers.parquet",
        hand_off="<results>/ablation/{model}/distributions/hand_off.parquet",
    log:
        "<logs>/measure_distributions.{model}.log",
    benchmark:
        "<benchmarks>/measure_distributions.{model}.tsv"
    conda:
        "../../envs/measure.yaml"
    resources:
        **MEASURING,
        runtime=120,
    params:
        sha256=SETTINGS.corpus.get("sha256", ""),
        text=SETTINGS.corpus["text"],
        split=config["tokens"].get("split", ""),
        directory=lambda wildcards: SETTINGS.tokenizer_directory(wildcards.model),
        names=config["experiments"]["distributions"],
        rows=config["experiments"]["distribution_rows"],
        row_length=config["tokens"]["row_length"],
        heads=lambda wildcards: SETTINGS.heads(wildcards.model),
        top_fraction=config["analysis"]["top_fraction"],
        seed=config["seed"],
        folder=subpath(output.sums, parent=True),
    shell:
        "python {input.code[0]:q} --model {input.model:q} --corpus {input.corpus:q} --sha256={params.sha256:q} "
        "--text {params.text:q} --split={params.split:q} --tokenizer {params.directory:q} --names {params.names} "
        "--rows {params.rows} --row-length {params.row_length} --heads {params.heads} "
        "--top-fraction {params.top_fraction} --seed {params.seed} --device {resources.device} "
        "--memory {resources.memory} --limit {resources.mem_mb} --threads {threads} --output {params.folder:q} "
        "2>&1 | tee {log:q}"


rule measure_estimates:
    """Every head ablated in some rows, beside its gradient estimate; sums by how tokens rank for the head."""
    input:
        **MODEL_INPUTS,
        code=code("measure_estimates", "measure"),
        rows="<results>/tokens/{model}/rows.parquet",
    output:
        "<results>/ablation/{model}/estimates.parquet",
    log:
        "<logs>/measure_estimates.{model}.log",
    benchmark:
        "<benchmarks>/measure_estimates.{model}.tsv"
    conda:
        "../../envs/measure.yaml"
    resources:
        **MEASURING,
        runtime=240,
    params:
        sampled=subpath(input.tokens, parent=True),
        heads=lambda wildcards: SETTINGS.heads(wildcards.model),
        study_rows=config["experiments"]["study_rows"],
        seed=config["seed"],
    shell:
        "python {input.code[0]:q} --model {input.model:q} --sampled {params.sampled:q} --heads {params.heads} "
        "--rows {params.study_rows} --seed {params.seed} --device {resources.device} --memory {resources.memory} "
        "--limit {resources.mem_mb} --threads {threads} --output {output:q} 2>&1 | tee {log:q}"


rule measure_held:
    """Ablate the heads that one later head repairs most, with that head held at its clean output, and both together."""
    input:
        **MODEL_INPUTS,
        code=code("measure_held", "measure"),
        rows="<results>/tokens/{model}/rows.parquet",
        selected="<results>/ablation/{model}/clean/selected.parquet",
        hand_off=of_shards("hand_off", ["resample"]),
    output:
        "<results>/ablation/{model}/held.parquet",
    log:
        "<logs>/measure_held.{model}.log",
    benchmark:
        "<benchmarks>/measure_held.{model}.tsv"
    conda:
        "../../envs/measure.yaml"
    resources:
        **MEASURING,
        runtime=120,
    params:
        sampled=subpath(input.tokens, parent=True),
        pairs=20,
    shell:
        "python {input.code[0]:q} --model {input.model:q} --sampled {params.sampled:q} --selected {input.selected:q} "
        "--hand-off {input.hand_off:q} --count {params.pairs} --device {resources.device} "
        "--memory {resources.memory} --limit {resources.mem_mb} --threads {threads} --output {output:q} "
        "2>&1 | tee {log:q}"


rule measure_loss:
    """Loss of every head's ablation in some rows, on top and control tokens, and what it would be if nothing responded."""
    input:
        **MODEL_INPUTS,
        code=code("measure_loss", "measure"),
        rows="<results>/tokens/{model}/rows.parquet",
        selected="<results>/ablation/{model}/clean/selected.parquet",
    output:
        "<results>/ablation/{model}/losses.parquet",
    log:
        "<logs>/measure_loss.{model}.log",
    benchmark:
        "<benchmarks>/measure_loss.{model}.tsv"
    conda:
        "../../envs/measure.yaml"
    resources:
        **MEASURING,
        runtime=120,
    params:
        sampled=subpath(input.tokens, parent=True),
        heads=lambda wildcards: SETTINGS.heads(wildcards.model),
        study_rows=config["experiments"]["study_rows"],
        control=config["experiments"]["loss_control_tokens"],
        seed=config["seed"],
    shell:
        "python {input.code[0]:q} --model {input.model:q} --sampled {params.sampled:q} --selected {input.selected:q} "
        "--heads {params.heads} --rows {params.study_rows} --control {params.control} --seed {params.seed} "
        "--device {resources.device} --memory {resources.memory} --limit {resources.mem_mb} --threads {threads} "
        "--output {output:q} 2>&1 | tee {log:q}"


rule measure_neurons:
    """Single neurons while the chosen heads are ablated, on each head's top tokens and on those MLPs repair most."""
    input:
        **MODEL_INPUTS,
        code=code("measure_neurons", "measure"),
        rows="<results>/tokens/{model}/rows.parquet",
        selected="<results>/ablation/{model}/clean/selected.parquet",
        chosen="<results>/analysis/{model}/chosen_heads.csv",
    output:
        tokens="<results>/ablation/{model}/neurons/tokens.parquet",
        neurons="<results>/ablation/{model}/neurons/neurons.parquet",
        ranks="<results>/ablation/{model}/neurons/ranks.parquet",
    log:
        "<logs>/measure_neurons.{model}.log",
    benchmark:
        "<benchmarks>/measure_neurons.{model}.tsv"
    conda:
        "../../envs/measure.yaml"
    resources:
        **MEASURING,
        runtime=240,
    params:
        sampled=subpath(input.tokens, parent=True),
        layers=config["experiments"]["neuron_layers"],
        top_fraction=config["analysis"]["top_fraction"],
        folder=subpath(output.tokens, parent=True),
    shell:
        "python {input.code[0]:q} --model {input.model:q} --sampled {params.sampled:q} --selected {input.selected:q} "
        "--chosen {input.chosen:q} --layers {params.layers} --top-fraction {params.top_fraction} "
        "--device {resources.device} --memory {resources.memory} --limit {resources.mem_mb} --threads {threads} "
        "--output {params.folder:q} 2>&1 | tee {log:q}"


rule check_norm:
    """The norm's part of self-repair by intervention: ablation with the final scale kept at its clean value."""
    input:
        **MODEL_INPUTS,
        code=code("check_norm", "measure"),
        rows="<results>/tokens/{model}/rows.parquet",
        means="<results>/ablation/{model}/clean/means.safetensors",
        measured=of_shards("tokens"),
    output:
        parquet="<results>/analysis/{model}/{ablation}/norm_check.parquet",
        csv="<results>/analysis/{model}/{ablation}/norm_check.csv",
    log:
        "<logs>/check_norm.{model}.{ablation}.log",
    benchmark:
        "<benchmarks>/check_norm.{model}.{ablation}.tsv"
    conda:
        "../../envs/measure.yaml"
    resources:
        **MEASURING,
    params:
        sampled=subpath(input.tokens, parent=True),
        heads=4,
        rows=8,
    shell:
        "python {input.code[0]:q} --model {input.model:q} --sampled {params.sampled:q} --means {input.means:q} "
        "--measured {input.measured:q} --ablation {wildcards.ablation} --count {params.heads} --rows {params.rows} "
        "--device {resources.device} --threads {threads} --output {output.parquet:q} 2>&1 | tee {log:q}"


# Each measuring job, and a file that says on what it ran.
MEASUREMENTS = {
    f"{job}.{of}": f"{RESULTS}/{file.format(of)}.parquet"
    for job, file, jobs in [
        ("measure_clean", "ablation/{}/clean/tokens", MEASURED),
        ("measure_lens", "ablation/{}/lens", MODELS),
        ("measure_iterative", "ablation/{}/iterative/additions", MODELS),
        ("measure_neurons", "ablation/{}/neurons/tokens", [*MODELS, *TWINS]),
        ("measure_partners", "ablation/{}/partners", MODELS),
        ("measure_held", "ablation/{}/held", [*MODELS, *TWINS]),
        *(
            (job, f"ablation/{{}}/{file}", [*MODELS, *TWINS])
            for job, file, studies in [
                ("measure_estimates", "estimates", ["threshold", "attribution"]),
                ("measure_loss", "losses", ["loss"]),
                ("measure_distributions", "distributions/sums", ["distributions"]),
            ]
            if set(studies) & set(STUDIES_BEYOND)
        ),
    ]
    for of in jobs
}
MEASUREMENTS |= {
    f"check_norm.{m}.{a}": f"{RESULTS}/analysis/{m}/{a}/norm_check.parquet"
    for m in MODELS
    for a in ABLATIONS
}
MEASUREMENTS |= {
    f"ablate_heads.{m}.{a}.{s}": f"{RESULTS}/ablation/{m}/{a}/sums-{s}.parquet"
    for m, a, s in SHARDED
}


rule record_run:
    """Configuration, seeds, versions, device and machine of the measurement."""
    input:
        code=code("record_run", "measure"),
        fetched=SETTINGS.all_fetched,
        # What was measured: a record is as old as the measurement that it is about.
        measured=list(MEASUREMENTS.values()),
    output:
        "<results>/report/run.json",
    log:
        "<logs>/record_run.log",
    benchmark:
        "<benchmarks>/record_run.tsv"
    conda:
        "../../envs/measure.yaml"
    params:
        config=SETTINGS.as_json(),
        listed=lambda wildcards: listed("record_run", config["run"], **MEASUREMENTS),
    shell:
        "python {input.code[0]:q} --config {params.config:q} --listed {params.listed:q} "
        "--fetched {input.fetched:q} --snakemake $(snakemake --version) --output {output:q} 2>&1 | tee {log:q}"
