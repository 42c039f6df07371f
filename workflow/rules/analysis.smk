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
        mem_mb=4000,
        runtime=60,
    params:
        replicates=config["analysis"]["bootstrap_replicates"],
        seed=config["seed"],
        folder=subpath(output.heads, parent=True),
    shell:
        "python {input.code[0]} --tokens {input.tokens} --sums {input.sums} --model {wildcards.model} "
        "--ablation {wildcards.ablation} --replicates {params.replicates} --seed {params.seed} "
        "--output {params.folder} 2>&1 | tee {log}"


rule record_run:
    """Configuration, seeds, versions, device and machine of the measurement."""
    input:
        code=code("record_run", "measure"),
        # What was measured: a record is as old as the measurement that it is about.
        measured=[
            *expand("<results>/ablation/{model}/clean/tokens.parquet", model=MODELS),
            *expand(
                "<results>/ablation/{model}/{ablation}/sums-{shard}.parquet",
                model=MODELS,
                ablation=ABLATIONS,
                shard=range(SHARDS),
            ),
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
            *expand("measure_clean.{model}", model=MODELS),
            *expand(
                "ablate_heads.{model}.{ablation}.{shard}",
                model=MODELS,
                ablation=ABLATIONS,
                shard=range(SHARDS),
            ),
        ],
    shell:
        "python {input.code[0]} --config {params.config:q} --jobs {params.jobs} --measured {input.measured} "
        "--output {output} 2>&1 | tee {log}"
