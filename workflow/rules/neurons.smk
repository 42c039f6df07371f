rule measure_neurons:
    """Single neurons while the chosen heads are ablated, on each head's top tokens and on those MLPs repair most."""
    input:
        code=code("measure_neurons", "measure"),
        model=ancient("<results>/models/{model}/folded"),
        facts="<results>/models/{model}/model.json",
        tokens="<results>/tokens/{model}/tokens.parquet",
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
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: SETTINGS.memory_mb(wildcards.model, attempt),
        gpu=SETTINGS.gpus,
        device=config["device"],
        memory=config["memory"],
        runtime=240,
    params:
        sampled=subpath(input.tokens, parent=True),
        layers=config["experiments"]["neuron_layers"],
        top_fraction=config["analysis"]["top_fraction"],
        folder=subpath(output.tokens, parent=True),
    shell:
        "python {input.code[0]} --model {input.model} --sampled {params.sampled} --selected {input.selected} "
        "--chosen {input.chosen} --layers {params.layers} --top-fraction {params.top_fraction} "
        "--device {resources.device} --memory {resources.memory} --limit {resources.mem_mb} --threads {threads} "
        "--output {params.folder} 2>&1 | tee {log}"
