# The model whose self-repair is known on paper. Not part of `all`.


rule check_known_answer:
    """Compare the run's tables with what follows on paper, and write both into docs/known_answer.md."""
    input:
        code=code("check_known_answer", "analyse"),
        tokens="<results>/tokens/known-answer/tokens.parquet",
        rows="<results>/tokens/known-answer/rows.parquet",
        ablated=expand(of_shards("tokens", ABLATIONS), model="known-answer"),
        heads=expand(
            f"{OF_ABLATION}/heads.parquet", model="known-answer", ablation=ABLATIONS
        ),
        neurons="<results>/ablation/known-answer/neurons/tokens.parquet",
    output:
        table="<results>/analysis/known-answer/known_answer.csv",
        page=update("docs/known_answer.md"),
    log:
        "<logs>/check_known_answer.log",
    benchmark:
        "<benchmarks>/check_known_answer.tsv"
    conda:
        "../../envs/analyse.yaml"
    shell:
        "python {input.code[0]:q} --tokens {input.tokens:q} --rows {input.rows:q} --ablated {input.ablated:q} "
        "--heads {input.heads:q} --neurons {input.neurons:q} --output {output.table:q} --page {output.page:q} "
        "2>&1 | tee {log:q}"
