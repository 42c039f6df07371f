rule compare_reference:
    """Heads of the run beside published ones, and statistics of the published ones themselves."""
    input:
        code=code("compare_reference", "analyse"),
        reference=SETTINGS.reference,
        claims="config/claims.yaml",
        heads=expand("<results>/analysis/{model}/resample/heads.parquet", model=MODELS),
    output:
        heads="<results>/analysis/reference/heads.parquet",
        agreement="<results>/analysis/reference/agreement.parquet",
        csv=expand(
            "<results>/analysis/reference/{table}.csv",
            table=["agreement", "models", "published"],
        ),
        norm_tex="<results>/tables/published_norm_share.tex",
        norm_csv=shown("<results>/tables/published_norm_share.csv"),
    log:
        "<logs>/compare_reference.log",
    benchmark:
        "<benchmarks>/compare_reference.tsv"
    conda:
        "../../envs/analyse.yaml"
    params:
        top_fraction=config["analysis"]["top_fraction"],
        folder=subpath(output.heads, parent=True),
    shell:
        "python {input.code[0]:q} --reference {input.reference:q} --heads {input.heads:q} --claims {input.claims:q} "
        "--top-fraction {params.top_fraction} --output {params.folder:q} --tex {output.norm_tex:q} "
        "--csv {output.norm_csv:q} 2>&1 | tee {log:q}"
