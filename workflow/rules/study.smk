# Small results of a run that are kept with the code. Not part of `all`.
REMAKE = f"snakemake --cores all --configfile {os.path.relpath(CONFIGFILES[0])} compare_study"


rule keep_study:
    """Keep the run's record, claims, tables and main figures under results/studies/, in place of what is there."""
    input:
        FINISHED,
        code=code("keep_study", "analyse"),
    log:
        "<logs>/keep_study.log",
    conda:
        "../../envs/analyse.yaml"
    params:
        run=RESULTS,
        study=SETTINGS.study,
        command=REMAKE,
    shell:
        "python {input.code[0]:q} --run {params.run:q} --study {params.study:q} --command {params.command:q} "
        "2>&1 | tee {log:q}"


rule compare_study:
    """Make the run anew and compare it with what is kept of it."""
    input:
        FINISHED,
        code=code("compare_study", "analyse"),
        kept=sorted(
            str(path) for path in Path(SETTINGS.study).rglob("*") if path.is_file()
        ),
    output:
        "<logs>/comparison.txt",
    log:
        "<logs>/compare_study.log",
    benchmark:
        "<benchmarks>/compare_study.tsv"
    conda:
        "../../envs/analyse.yaml"
    params:
        run=RESULTS,
        study=SETTINGS.study,
    shell:
        "python {input.code[0]:q} --run {params.run:q} --study {params.study:q} --output {output:q} 2>&1 | tee {log:q}"
