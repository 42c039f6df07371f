rule explorer_data:
    """What the explorer shows of one model: statistics, responders, single tokens, tokens in context, promoted ones, neurons."""
    input:
        code=code("explorer_data", "measure"),
        facts="<results>/models/{model}/model.json",
        heads=expand(
            "<results>/analysis/{{model}}/{ablation}/heads.parquet", ablation=ABLATIONS
        ),
        responders=expand(
            "<results>/analysis/{{model}}/{ablation}/responders.parquet",
            ablation=ABLATIONS,
        ),
        tokens=of_shards("tokens", ABLATIONS),
        sampled="<results>/tokens/{model}/tokens.parquet",
        selected="<results>/ablation/{model}/clean/selected.parquet",
        lens="<results>/ablation/{model}/lens.parquet",
        hand_off="<results>/analysis/{model}/hand-off/hand_off.parquet",
        frequency="<results>/analysis/{model}/neurons/frequency.parquet",
        erasure="<results>/analysis/{model}/neurons/erasure.parquet",
        tokenizer=lambda wildcards: SETTINGS.tokenizer_files(wildcards.model),
    output:
        "<results>/analysis/{model}/explorer.json",
    log:
        "<logs>/explorer_data.{model}.log",
    benchmark:
        "<benchmarks>/explorer_data.{model}.tsv"
    conda:
        "../../envs/measure.yaml"
    resources:
        mem_mb=4000,
    params:
        measure=config["ablation"]["measure"],
        tokens=lambda wildcards, input: [
            f"{file.split('/')[-2]}={file}" for file in input.tokens
        ],
        neurons=subpath(input.frequency, parent=True),
        directory=lambda wildcards: SETTINGS.tokenizer_directory(wildcards.model),
        seed=config["seed"],
    shell:
        "python {input.code[0]:q} --facts {input.facts:q} --measure {params.measure} --heads {input.heads:q} "
        "--responders {input.responders:q} --tokens {params.tokens:q} --sampled {input.sampled:q} "
        "--selected {input.selected:q} --lens {input.lens:q} --hand-off {input.hand_off:q} --neurons {params.neurons:q} "
        "--tokenizer {params.directory:q} --seed {params.seed} --output {output:q} 2>&1 | tee {log:q}"


rule write_explorer:
    """One self-contained page in which every head of the run can be looked at."""
    input:
        code=code("write_explorer", "draw"),
        templates=expand(
            "src/selfrepair/report/templates/explorer/{file}",
            file=[
                *["page.html.j2", "page.css", "page.js", "state.js"],
                *["charts.js", "grid.js", "head.js", "contexts.js"],
            ],
        ),
        models="<results>/analysis/models.csv",
        data=expand("<results>/analysis/{model}/explorer.json", model=MODELS),
    output:
        report(
            "<results>/report/explorer.html",
            category="Run",
            labels={"title": "Explorer of every head"},
        ),
    log:
        "<logs>/write_explorer.log",
    benchmark:
        "<benchmarks>/write_explorer.tsv"
    conda:
        "../../envs/draw.yaml"
    resources:
        mem_mb=2000,
    params:
        run=subpath(input.models, ancestor=2),
    shell:
        "python {input.code[0]:q} --runs {params.run:q} --output {output:q} 2>&1 | tee {log:q}"
