# A controlled family: a base and arms that differ from it in one feature, trained and measured here, seed by seed.

import json

from family import read_family

FAMILY = read_family(config, CONFIGFILES)
OF_ARM = ["sums.parquet", "training.csv", "arm.json"]
OF_BASE = ["losses.parquet", "displaced.parquet", "adaptation.json"]
COMPARED = ["arms", "course", "onset", "differences"]


pathvars:
    results=FAMILY.results,
    logs=f"{FAMILY.results}/logs",
    benchmarks=f"{FAMILY.results}/benchmarks",


onstart:
    hold_lock()


rule train_arm:
    """Train one arm with one seed; an interrupted training resumes from its last checkpoint."""
    input:
        code=code("train_model", "train"),
        corpus=config["corpus"],
        tokenizer=f"{config['tokenizer']}/tokenizer.json",
    output:
        temp(directory("<results>/trained/{name}")),
    log:
        "<logs>/train_arm.{name}.log",
    benchmark:
        "<benchmarks>/train_arm.{name}.tsv"
    conda:
        "../../envs/train.yaml"
    resources:
        mem_mb=2000,
    params:
        training=lambda wildcards: json.dumps(
            FAMILY.settings(wildcards.name)["training"]
        ),
    shell:
        "python {input.code[0]} --corpus {input.corpus:q} --tokenizer {input.tokenizer:q} --training {params.training:q} "
        "--threads {threads} --output {output:q} 2>&1 | tee -a {log:q}"


# Of every training its checkpoints, and its last step with shuffled weights; of a base also what tells adaptation from an
# artefact. The last file holds the settings.
for job, files in {"measure_arm": OF_ARM, "measure_adaptation": OF_BASE}.items():

    rule:
        """Measure a training: sums by document, which are small."""
        name:
            job
        input:
            code=code(job, "measure"),
            trained="<results>/trained/{name}",
            corpus=config["corpus"],
            tokenizer=f"{config['tokenizer']}/tokenizer.json",
        output:
            expand("<results>/arms/{{name}}/{file}", file=files),
        log:
            f"<logs>/{job}.{{name}}.log",
        benchmark:
            f"<benchmarks>/{job}.{{name}}.tsv"
        conda:
            "../../envs/measure.yaml"
        resources:
            mem_mb=3000,
        params:
            settings=lambda wildcards, settings_file=files[-1]: json.dumps(
                FAMILY.settings(wildcards.name, settings_file)
            ),
            tokenizer=subpath(input.tokenizer, parent=True),
            folder=subpath(output[0], parent=True),
        shell:
            "python {input.code[0]} --trained {input.trained:q} --settings {params.settings:q} --corpus {input.corpus:q} "
            "--tokenizer {params.tokenizer:q} --threads {threads} --output {params.folder:q} 2>&1 | tee {log:q}"


# What is made of them: the arms against the base, in words and numbers; and what speaks for adaptation or an artefact.
# Function, trainings, their files, tables, and what else it is told.
FAMILY_ANALYSES = {
    "compare_arms": (
        *("arms:compare_arms", FAMILY.trainings, OF_ARM, COMPARED),
        [f"bound={config['bound']}"],
    ),
    "weigh_adaptation": (
        *("adaptation:weigh_adaptation", FAMILY.bases, OF_BASE, ["evidence"]),
        [],
    ),
}

for job, (function, trainings, files, tables, told) in FAMILY_ANALYSES.items():

    rule:
        """Make tables of all trainings, with intervals over seeds and documents."""
        name:
            job
        input:
            code=code("analyse", "analyse", f"analysis.{function}"),
            measured=[
                f"{FAMILY.folder(name, files[-1])}/{file}"
                for name in trainings
                for file in files
            ],
        output:
            expand(
                "<results>/analysis/{table}.{suffix}",
                table=tables,
                suffix=["parquet", "csv"],
            ),
        log:
            f"<logs>/{job}.log",
        benchmark:
            f"<benchmarks>/{job}.tsv"
        conda:
            "../../envs/analyse.yaml"
        params:
            function=f"analysis.{function}",
            inputs=[
                *(f"folders={FAMILY.folder(name, files[-1])}" for name in trainings),
                *told,
                f"replicates={config['bootstrap_replicates']}",
                "seed=1",
            ],
        shell:
            "python {input.code[0]:q} --function {params.function:q} --inputs {params.inputs:q} --output {output:q} "
            "2>&1 | tee {log:q}"


for figure, (module, tables) in FAMILY_FIGURES.items():

    rule:
        """Draw a figure of the family; `workflow/report/captions.yaml` says what it shows."""
        name:
            f"figure_{figure}"
        input:
            **{table: f"<results>/analysis/{table}.parquet" for table in tables},
            code=code("figure", "draw", f"figures.{module}:{figure}"),
        output:
            figure_files(figure),
        log:
            f"<logs>/figure_{figure}.log",
        benchmark:
            f"<benchmarks>/figure_{figure}.tsv"
        conda:
            "../../envs/draw.yaml"
        resources:
            mem_mb=1500,
        params:
            function=f"figures.{module}:{figure}",
            inputs=[
                f"{figure}:{table}={FAMILY.results}/analysis/{table}.parquet"
                for table in tables
            ],
        shell:
            "python {input.code[0]:q} --function {params.function:q} --inputs {params.inputs:q} --output {output:q} "
            "2>&1 | tee {log:q}"


rule keep_arms:
    """Keep the finished trainings' tables, and what follows from all of them if they are there, under results/studies/."""
    input:
        code=code("keep_arms", "analyse"),
    log:
        "<logs>/keep_arms.log",
    conda:
        "../../envs/analyse.yaml"
    params:
        run=FAMILY.results,
        study=str(FAMILY.study),
    shell:
        "python {input.code[0]:q} --run {params.run:q} --study {params.study:q} 2>&1 | tee {log:q}"


WANTED = (
    f"{FAMILY.study}/differences.csv"
    if FAMILY.is_compared
    else [
        *expand(
            "<results>/analysis/{table}.{suffix}",
            table=[*COMPARED, "evidence"],
            suffix=["parquet", "csv"],
        ),
        *(file for figure in FAMILY_FIGURES for file in figure_files(figure)),
    ]
)
