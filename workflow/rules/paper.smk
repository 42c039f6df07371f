rule write_macros:
    """Every number of the paper's prose as a TeX macro."""
    input:
        code=code("write_macros", "analyse"),
        record="<results>/report/run.json",
        models="<results>/analysis/models.csv",
        heads=of_models("resample/heads.parquet"),
        layers=of_models("resample/layers.parquet"),
        claims="<results>/report/claims.json",
        costs="<results>/report/costs.csv",
        listed="paper/statements.yaml",
        findings="<results>/tables/findings.csv",
        beyond="config/studies.yaml",
        studies=SETTINGS.of_studies("report/claims.json"),
        family=[file for table in FAMILY_TABLES for file in SETTINGS.family(table)],
    output:
        "<results>/paper/macros.tex",
    log:
        "<logs>/write_macros.log",
    benchmark:
        "<benchmarks>/write_macros.tsv"
    conda:
        "../../envs/analyse.yaml"
    shell:
        "python {input.code[0]:q} --run-record {input.record:q} --models {input.models:q} --heads {input.heads:q} "
        "--layers {input.layers:q} --claims {input.claims:q} --costs {input.costs:q} --listed {input.listed:q} "
        "--findings {input.findings:q} --beyond {input.beyond:q} "
        "--studies {input.studies:q} --family {input.family:q} --output {output:q} 2>&1 | tee {log:q}"


rule paper_source:
    """The paper's sources, tables and figures in one archive, ready to compile."""
    input:
        code=code("paper_source", "analyse"),
        main="paper/main.tex",
        bibliography="paper/references.bib",
        macros="<results>/paper/macros.tex",
        tables=expand("<results>/tables/{table}.tex", table=TABLES),
        figures=expand("<results>/figures/{figure}.pdf", figure=FIGURES),
    output:
        "<results>/paper/source.zip",
    log:
        "<logs>/paper_source.log",
    benchmark:
        "<benchmarks>/paper_source.tsv"
    conda:
        "../../envs/analyse.yaml"
    shell:
        "python {input.code[0]:q} --main {input.main:q} --bibliography {input.bibliography:q} --macros {input.macros:q} "
        "--tables {input.tables:q} --figures {input.figures:q} --output {output:q} 2>&1 | tee {log:q}"


rule typeset_paper:
    """The paper as PDF; a target where a TeX engine was found (TYPESET)."""
    input:
        code=code("typeset_paper", "typeset"),
        source="<results>/paper/source.zip",
    output:
        report(
            "<results>/paper/paper.pdf", category="Run", labels={"title": "The paper"}
        ),
    log:
        "<logs>/typeset_paper.log",
    benchmark:
        "<benchmarks>/typeset_paper.tsv"
    conda:
        "../../envs/typeset.yaml"
    shell:
        "python {input.code[0]:q} --source {input.source:q} --output {output:q} 2>&1 | tee {log:q}"
