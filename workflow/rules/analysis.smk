rule summarise_heads:
    """Per head and per layer: means, medians, shares and clipped shares with intervals clustered by document."""
    input:
        code=code("summarise_heads", "analyse"),
        tokens=expand(
            "<results>/ablation/{{model}}/{{ablation}}/tokens-{shard}.parquet",
            shard=range(SHARDS),
        ),
        sums=expand(
            "<results>/ablation/{{model}}/{{ablation}}/sums-{shard}.parquet",
            shard=range(SHARDS),
        ),
    output:
        heads="<results>/analysis/{model}/{ablation}/heads.parquet",
        layers="<results>/analysis/{model}/{ablation}/layers.parquet",
        responders="<results>/analysis/{model}/{ablation}/responders.parquet",
        csv=expand(
            "<results>/analysis/{{model}}/{{ablation}}/{table}.csv",
            table=["heads", "layers", "responders"],
        ),
    log:
        "<logs>/summarise_heads.{model}.{ablation}.log",
    benchmark:
        "<benchmarks>/summarise_heads.{model}.{ablation}.tsv"
    conda:
        "../../envs/analyse.yaml"
    resources:
        mem_mb=lambda wildcards, input, attempt: attempt * int(4000 + 5 * input.size_mb),
        runtime=60,
    params:
        replicates=config["analysis"]["bootstrap_replicates"],
        seed=config["seed"],
        folder=subpath(output.heads, parent=True),
    shell:
        "python {input.code[0]} --tokens {input.tokens} --sums {input.sums} --model {wildcards.model} "
        "--ablation {wildcards.ablation} --replicates {params.replicates} --seed {params.seed} "
        "--output {params.folder} 2>&1 | tee {log}"


rule bootstrap_statistics:
    """Statistics that decide claims about heads, on the run and on each of its bootstrap replicates."""
    input:
        code=code("bootstrap_statistics", "analyse"),
        tokens=expand(
            "<results>/ablation/{{model}}/resample/tokens-{shard}.parquet",
            shard=range(SHARDS),
        ),
        sums=expand(
            "<results>/ablation/{{model}}/resample/sums-{shard}.parquet",
            shard=range(SHARDS),
        ),
    output:
        statistics="<results>/analysis/{model}/resample/head_statistics.parquet",
        csv="<results>/analysis/{model}/resample/head_statistics.csv",
    log:
        "<logs>/bootstrap_statistics.{model}.log",
    benchmark:
        "<benchmarks>/bootstrap_statistics.{model}.tsv"
    conda:
        "../../envs/analyse.yaml"
    resources:
        mem_mb=lambda wildcards, input, attempt: attempt * int(4000 + 5 * input.size_mb),
        runtime=60,
    params:
        replicates=config["analysis"]["bootstrap_replicates"],
        seed=config["seed"],
    shell:
        "python {input.code[0]} --tokens {input.tokens} --sums {input.sums} --model {wildcards.model} "
        "--replicates {params.replicates} --seed {params.seed} --output {output.statistics} 2>&1 | tee {log}"


rule choose_heads:
    """The heads that single-head experiments look at: those configured, and some by what was measured."""
    input:
        code=code("choose_heads", "analyse"),
        heads="<results>/analysis/{model}/resample/heads.parquet",
        tokens=expand(
            "<results>/ablation/{{model}}/resample/tokens-{shard}.parquet",
            shard=range(SHARDS),
        ),
    output:
        "<results>/analysis/{model}/chosen_heads.csv",
    log:
        "<logs>/choose_heads.{model}.log",
    benchmark:
        "<benchmarks>/choose_heads.{model}.tsv"
    conda:
        "../../envs/analyse.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        study=lambda wildcards: SETTINGS.study(wildcards.model),
        most=config["experiments"]["chosen_heads"],
    shell:
        "python {input.code[0]} --model {wildcards.model} --heads {input.heads} --tokens {input.tokens} "
        "--study {params.study} --count {params.most} --output {output} 2>&1 | tee {log}"


rule summarise_norm:
    """Scale of the final norm and the norm's part of self-repair: per head and kind of ablation, by three accountings."""
    input:
        code=code("summarise_norm", "analyse"),
        tokens=expand(
            "<results>/ablation/{{model}}/{{ablation}}/tokens-{shard}.parquet",
            shard=range(SHARDS),
        ),
        clean="<results>/ablation/{model}/clean/tokens.parquet",
    output:
        norm="<results>/analysis/{model}/{ablation}/norm.parquet",
        csv="<results>/analysis/{model}/{ablation}/norm.csv",
        histogram="<results>/analysis/{model}/{ablation}/norm_histogram.parquet",
    log:
        "<logs>/summarise_norm.{model}.{ablation}.log",
    benchmark:
        "<benchmarks>/summarise_norm.{model}.{ablation}.tsv"
    conda:
        "../../envs/analyse.yaml"
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        replicates=config["analysis"]["bootstrap_replicates"],
        seed=config["seed"],
        folder=subpath(output.norm, parent=True),
    shell:
        "python {input.code[0]} --tokens {input.tokens} --clean {input.clean} --model {wildcards.model} "
        "--ablation {wildcards.ablation} --replicates {params.replicates} --seed {params.seed} "
        "--output {params.folder} 2>&1 | tee {log}"


rule check_norm:
    """The norm's part of self-repair by intervention: ablation with the final scale kept at its clean value."""
    input:
        code=code("check_norm", "measure"),
        model=ancient("<results>/models/{model}/folded"),
        facts="<results>/models/{model}/model.json",
        tokens="<results>/tokens/{model}/tokens.parquet",
        rows="<results>/tokens/{model}/rows.parquet",
        means="<results>/ablation/{model}/clean/means.safetensors",
        measured="<results>/ablation/{model}/{ablation}/tokens-0.parquet",
        heads="<results>/analysis/{model}/{ablation}/heads.parquet",
    output:
        parquet="<results>/analysis/{model}/{ablation}/norm_check.parquet",
        csv="<results>/analysis/{model}/{ablation}/norm_check.csv",
    log:
        "<logs>/check_norm.{model}.{ablation}.log",
    benchmark:
        "<benchmarks>/check_norm.{model}.{ablation}.tsv"
    conda:
        "../../envs/measure.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: SETTINGS.memory_mb(wildcards.model, attempt),
        gpu=SETTINGS.gpus,
        runtime=60,
    params:
        sampled=subpath(input.tokens, parent=True),
        heads=4,
        rows=8,
        device=config["device"],
    shell:
        "python {input.code[0]} --model {input.model} --sampled {params.sampled} --means {input.means} "
        "--measured {input.measured} --heads {input.heads} --ablation {wildcards.ablation} --count {params.heads} "
        "--rows {params.rows} --device {params.device} --threads {threads} --output {output.parquet} 2>&1 | tee {log}"


rule summarise_noise:
    """Rates of overcorrection, and how much of self-repair's variance is documents', tokens' and partners'."""
    input:
        code=code("summarise_noise", "analyse"),
        tokens=expand(
            "<results>/ablation/{{model}}/resample/tokens-{shard}.parquet",
            shard=range(SHARDS),
        ),
        clean="<results>/ablation/{model}/clean/tokens.parquet",
        partners="<results>/ablation/{model}/partners.parquet",
    output:
        noise="<results>/analysis/{model}/noise.parquet",
        csv="<results>/analysis/{model}/noise.csv",
    log:
        "<logs>/summarise_noise.{model}.log",
    benchmark:
        "<benchmarks>/summarise_noise.{model}.tsv"
    conda:
        "../../envs/analyse.yaml"
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        replicates=config["analysis"]["bootstrap_replicates"],
        seed=config["seed"],
        folder=subpath(output.noise, parent=True),
    shell:
        "python {input.code[0]} --tokens {input.tokens} --clean {input.clean} --partners {input.partners} "
        "--model {wildcards.model} --replicates {params.replicates} --seed {params.seed} --output {params.folder} "
        "2>&1 | tee {log}"


rule record_run:
    """Configuration, seeds, versions, device and machine of the measurement."""
    input:
        code=code("record_run", "measure"),
        fetched=[
            *SETTINGS.fetched_records("models").values(),
            *SETTINGS.fetched_records("corpora").values(),
        ],
        # What was measured: a record is as old as the measurement that it is about.
        measured=[
            *expand("<results>/ablation/{model}/clean/tokens.parquet", model=MEASURED),
            *expand(
                "<results>/ablation/{model}/iterative/additions.parquet", model=MODELS
            ),
            *expand("<results>/ablation/{model}/neurons/tokens.parquet", model=MODELS),
            *expand("<results>/ablation/{model}/partners.parquet", model=MODELS),
            *expand(
                "<results>/analysis/{model}/{ablation}/norm_check.parquet",
                model=MODELS,
                ablation=ABLATIONS,
            ),
            *expand("<results>/ablation/{shard}.parquet", shard=SHARD_FILES),
        ],
    output:
        "<results>/report/run.json",
    log:
        "<logs>/record_run.log",
    benchmark:
        "<benchmarks>/record_run.tsv"
    conda:
        "../../envs/measure.yaml"
    resources:
        mem_mb=1000,
        runtime=5,
    params:
        config=SETTINGS.as_json(),
        jobs=[
            *expand("measure_clean.{model}", model=MEASURED),
            *expand("measure_iterative.{model}", model=MODELS),
            *expand("measure_neurons.{model}", model=MODELS),
            *expand("measure_partners.{model}", model=MODELS),
            *expand("check_norm.{model}.{ablation}", model=MODELS, ablation=ABLATIONS),
            *expand("ablate_heads.{job}", job=SHARD_JOBS),
        ],
    shell:
        "python {input.code[0]} --config {params.config:q} --jobs {params.jobs} --measured {input.measured} "
        "--fetched {input.fetched} --snakemake $(snakemake --version) --output {output} 2>&1 | tee {log}"


rule summarise_iterative:
    """Exploratory: what skipping layers and repeating a head's output say for and against iterative inference."""
    input:
        code=code("summarise_iterative", "analyse"),
        moves="<results>/ablation/{model}/iterative/moves.parquet",
        additions="<results>/ablation/{model}/iterative/additions.parquet",
    output:
        moving="<results>/analysis/{model}/iterative/moving.parquet",
        simulated="<results>/analysis/{model}/iterative/simulated.parquet",
        repression="<results>/analysis/{model}/iterative/repression.parquet",
        csv=expand(
            "<results>/analysis/{{model}}/iterative/{table}.csv",
            table=["moving", "simulated", "repression", "iterative_summary"],
        ),
    log:
        "<logs>/summarise_iterative.{model}.log",
    benchmark:
        "<benchmarks>/summarise_iterative.{model}.tsv"
    conda:
        "../../envs/analyse.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        replicates=config["analysis"]["bootstrap_replicates"],
        seed=config["seed"],
        folder=subpath(output.moving, parent=True),
    shell:
        "python {input.code[0]} --moves {input.moves} --additions {input.additions} --model {wildcards.model} "
        "--replicates {params.replicates} --seed {params.seed} --output {params.folder} 2>&1 | tee {log}"
