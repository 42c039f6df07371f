NEURON_SUMMARIES = [
    "sparsity",
    "histograms",
    "shares",
    "cumulative",
    "frequency",
    "erasure",
]


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
        runtime=240,
    params:
        sampled=subpath(input.tokens, parent=True),
        layers=config["experiments"]["neuron_layers"],
        top_fraction=config["analysis"]["top_fraction"],
        device=config["device"],
        memory=config.get("memory", "auto"),
        folder=subpath(output.tokens, parent=True),
    shell:
        "python {input.code[0]} --model {input.model} --sampled {params.sampled} --selected {input.selected} "
        "--chosen {input.chosen} --layers {params.layers} --top-fraction {params.top_fraction} "
        "--device {params.device} --memory {params.memory} --limit {resources.mem_mb} --threads {threads} "
        "--output {params.folder} 2>&1 | tee {log}"


rule summarise_neurons:
    """How sparse repair by neurons is, what it erases, and which neurons do it, with intervals by document."""
    input:
        code=code("summarise_neurons", "measure"),
        tokens="<results>/ablation/{model}/neurons/tokens.parquet",
        neurons="<results>/ablation/{model}/neurons/neurons.parquet",
        ranks="<results>/ablation/{model}/neurons/ranks.parquet",
        sampled="<results>/tokens/{model}/tokens.parquet",
        tokenizer=lambda wildcards: SETTINGS.tokenizer_files(wildcards.model),
    output:
        sparsity="<results>/analysis/{model}/neurons/sparsity.parquet",
        others=expand(
            "<results>/analysis/{{model}}/neurons/{table}.parquet",
            table=NEURON_SUMMARIES[1:],
        ),
        csv=expand(
            "<results>/analysis/{{model}}/neurons/{table}.csv", table=NEURON_SUMMARIES
        ),
    log:
        "<logs>/summarise_neurons.{model}.log",
    benchmark:
        "<benchmarks>/summarise_neurons.{model}.tsv"
    conda:
        "../../envs/measure.yaml"
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        measured=subpath(input.tokens, parent=True),
        directory=lambda wildcards: SETTINGS.tokenizer_directory(wildcards.model),
        replicates=config["analysis"]["bootstrap_replicates"],
        seed=config["seed"],
        folder=subpath(output.sparsity, parent=True),
    shell:
        "python {input.code[0]} --model {wildcards.model} --neurons {params.measured} --sampled {input.sampled} "
        "--tokenizer {params.directory:q} --replicates {params.replicates} --seed {params.seed} "
        "--output {params.folder} 2>&1 | tee {log}"


rule table_erasure_neurons:
    """Erasure neurons of the chosen heads and the tokens on which they change most, as LaTeX and CSV."""
    input:
        code=code("table_erasure_neurons", "analyse"),
        erasure=expand(
            "<results>/analysis/{model}/neurons/erasure.parquet", model=MODELS
        ),
    output:
        tex="<results>/tables/erasure_neurons.tex",
        csv=shown("<results>/tables/erasure_neurons.csv"),
    log:
        "<logs>/table_erasure_neurons.log",
    benchmark:
        "<benchmarks>/table_erasure_neurons.tsv"
    conda:
        "../../envs/analyse.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    shell:
        "python {input.code[0]:q} --erasure {input.erasure:q} --tex {output.tex:q} --csv {output.csv:q} "
        "2>&1 | tee {log:q}"


rule figure_neuron_sparsity:
    """How few neurons repair how much of a head's direct effect, one model."""
    input:
        code=code("figure_neuron_sparsity", "draw"),
        sparsity="<results>/analysis/{model}/neurons/sparsity.parquet",
    output:
        figure_files("neuron_sparsity.{model}"),
    log:
        "<logs>/figure_neuron_sparsity.{model}.log",
    benchmark:
        "<benchmarks>/figure_neuron_sparsity.{model}.tsv"
    conda:
        "../../envs/draw.yaml"
    resources:
        mem_mb=1500,
        runtime=10,
    shell:
        "python {input.code[0]:q} --sparsity {input.sparsity:q} --output {output:q} 2>&1 | tee {log:q}"


rule figure_neuron_cumulative:
    """Cumulative share of the neurons' changes by rank, and what the neurons of a rank do, one model."""
    input:
        code=code("figure_neuron_cumulative", "draw"),
        cumulative="<results>/analysis/{model}/neurons/cumulative.parquet",
    output:
        figure_files("neuron_cumulative.{model}"),
    log:
        "<logs>/figure_neuron_cumulative.{model}.log",
    benchmark:
        "<benchmarks>/figure_neuron_cumulative.{model}.tsv"
    conda:
        "../../envs/draw.yaml"
    resources:
        mem_mb=1500,
        runtime=10,
    shell:
        "python {input.code[0]:q} --cumulative {input.cumulative:q} --output {output:q} 2>&1 | tee {log:q}"


rule figure_erasure_scatter:
    """The neuron that changes most on each token: direct effect before and after, one model."""
    input:
        code=code("figure_erasure_scatter", "draw"),
        tokens="<results>/ablation/{model}/neurons/tokens.parquet",
        shares="<results>/analysis/{model}/neurons/shares.parquet",
    output:
        figure_files("erasure_scatter.{model}"),
    log:
        "<logs>/figure_erasure_scatter.{model}.log",
    benchmark:
        "<benchmarks>/figure_erasure_scatter.{model}.tsv"
    conda:
        "../../envs/draw.yaml"
    resources:
        mem_mb=1500,
        runtime=10,
    shell:
        "python {input.code[0]:q} --tokens {input.tokens:q} --shares {input.shares:q} --output {output:q} 2>&1 | tee {log:q}"


rule figure_neuron_histograms:
    """Shares of repair by MLPs, by five neurons and by one in a hundred, one model."""
    input:
        code=code("figure_neuron_histograms", "draw"),
        histograms="<results>/analysis/{model}/neurons/histograms.parquet",
    output:
        figure_files("neuron_histograms.{model}"),
    log:
        "<logs>/figure_neuron_histograms.{model}.log",
    benchmark:
        "<benchmarks>/figure_neuron_histograms.{model}.tsv"
    conda:
        "../../envs/draw.yaml"
    resources:
        mem_mb=1500,
        runtime=10,
    shell:
        "python {input.code[0]:q} --histograms {input.histograms:q} --output {output:q} 2>&1 | tee {log:q}"


rule figure_neuron_frequency:
    """How often the same neurons repair, one model."""
    input:
        code=code("figure_neuron_frequency", "draw"),
        frequency="<results>/analysis/{model}/neurons/frequency.parquet",
    output:
        figure_files("neuron_frequency.{model}"),
    log:
        "<logs>/figure_neuron_frequency.{model}.log",
    benchmark:
        "<benchmarks>/figure_neuron_frequency.{model}.tsv"
    conda:
        "../../envs/draw.yaml"
    resources:
        mem_mb=1500,
        runtime=10,
    shell:
        "python {input.code[0]:q} --frequency {input.frequency:q} --output {output:q} 2>&1 | tee {log:q}"
