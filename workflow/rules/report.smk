RETRAINED = [name for name in MODELS if SETTINGS.retrained(name)]
# Jobs whose costs the report shows.
BENCHMARKS = expand(
    "<benchmarks>/{job}.tsv",
    job=[
        *(["train_tokenizer"] if RETRAINED else []),
        *expand("train_model.{model}", model=RETRAINED),
        *expand("{rule}.{model}", rule=["sample_tokens", "fold_model"], model=MEASURED),
        *MEASUREMENTS,
        *ANALYSIS_JOBS,
        *expand("figure_{figure}", figure=FIGURE_RULES),
        "record_run",
        *expand("table_{table}", table=TABLE_ARGUMENTS),
        "check_claims",
        *expand("explorer_data.{model}", model=MODELS),
        "write_explorer",
        *(["compare_reference"] if SETTINGS.reference else []),
    ],
)


rule check_claims:
    """Verdicts on the paper's claims, as JSON, LaTeX and CSV."""
    input:
        code=code("check_claims", "analyse"),
        claims="config/claims.yaml",
        schema="workflow/schemas/claims.schema.yaml",
        facts=expand("<results>/models/{model}/model.json", model=MODELS),
        fetched=list(SETTINGS.fetched_records("models").values()),
        tables=expand(
            "<results>/analysis/{model}/{table}.parquet",
            model=MODELS,
            table=[
                "resample/head_statistics",
                "neurons/statistics",
                "iterative/moving",
                "iterative/repression",
            ],
        ),
        twins=expand(
            "<results>/analysis/{model}/{table}.parquet",
            model=TWINS,
            table=["resample/head_statistics", "neurons/statistics"],
        ),
    output:
        json="<results>/report/claims.json",
        tex="<results>/tables/claims.tex",
        csv=shown("<results>/tables/claims.csv"),
    log:
        "<logs>/check_claims.log",
    benchmark:
        "<benchmarks>/check_claims.tsv"
    conda:
        "../../envs/analyse.yaml"
    params:
        analyses=expand(f"{RESULTS}/analysis/{{model}}", model=MODELS),
        twins=expand(f"{RESULTS}/analysis/{{model}}", model=TWINS),
    shell:
        "python {input.code[0]:q} --claims {input.claims:q} --schema {input.schema:q} --facts {input.facts:q} "
        "--analyses {params.analyses:q} --twins {params.twins:q} --fetched {input.fetched:q} "
        "--json-output {output.json:q} --tex {output.tex:q} --csv {output.csv:q} 2>&1 | tee {log:q}"


rule write_report:
    """One self-contained page: run, models, claims, figures and costs."""
    input:
        code=code("write_report", "analyse"),
        template="src/selfrepair/report/templates/report.html.j2",
        captions="workflow/report/captions.yaml",
        record="<results>/report/run.json",
        models="<results>/analysis/models.csv",
        claims="<results>/report/claims.json",
        figures=expand("<results>/figures/{figure}.svg", figure=FIGURES),
        tables=[
            "<results>/tables/findings.csv",
            *(["<results>/tables/features.csv"] if SETTINGS.family("arms") else []),
            "<results>/tables/norm.csv",
            *expand(
                "<results>/analysis/{model}/{ablation}/norm_check.csv",
                model=MODELS,
                ablation=ABLATIONS,
            ),
            "<results>/tables/erasure_neurons.csv",
            *expand("<results>/analysis/{model}/hand-off/pairs.csv", model=MODELS),
            *expand(
                "<results>/analysis/{model}/iterative/iterative_summary.csv",
                model=MODELS,
            ),
            *(
                ["<results>/tables/published_norm_share.csv"]
                if SETTINGS.reference
                else []
            ),
        ],
        spent="<results>/report/costs.csv",
        studies=SETTINGS.of_studies("report/claims.json"),
    output:
        report(
            "<results>/report/report.html",
            category="Run",
            labels={"title": "Report with the verdict on each claim"},
        ),
    log:
        "<logs>/write_report.log",
    benchmark:
        "<benchmarks>/write_report.tsv"
    conda:
        "../../envs/analyse.yaml"
    shell:
        "python {input.code[0]:q} --run-record {input.record:q} --models {input.models:q} --claims {input.claims:q} "
        "--captions {input.captions:q} --figures {input.figures:q} --tables {input.tables:q} "
        "--spent {input.spent:q} --studies {input.studies:q} --output {output:q} 2>&1 | tee {log:q}"


rule readme:
    """The README's picture and its table of findings. Not part of `all`."""
    input:
        code=code("write_readme", "analyse"),
        claims="<results>/report/claims.json",
        found="<results>/tables/findings.csv",
        picture="<results>/figures/self_repair_by_depth.resample.png",
        studies=SETTINGS.of_studies("report/claims.json"),
        family=[
            file
            for table in ["differences", "onset", "evidence"]
            for file in SETTINGS.family(table)
        ],
    output:
        readme=update("README.md"),
        shown="docs/self_repair_by_depth.png",
    log:
        "<logs>/readme.log",
    benchmark:
        "<benchmarks>/readme.tsv"
    conda:
        "../../envs/analyse.yaml"
    shell:
        "python {input.code[0]:q} --claims {input.claims:q} --found {input.found:q} --picture {input.picture:q} --readme {output.readme:q} "
        "--shown {output.shown:q} --studies {input.studies:q} --family {input.family:q} 2>&1 | tee {log:q}"
