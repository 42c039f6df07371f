# A run: models measured on text, from tokens to figures, report and paper.


include: "common.smk"


pathvars:
    results=SETTINGS.results,
    logs=f"{SETTINGS.results}/logs",
    benchmarks=f"{SETTINGS.results}/benchmarks",


include: "tokens.smk"
include: "models.smk"
include: "ablation.smk"
include: "analysis.smk"


if SETTINGS.reference:

    include: "reference.smk"


include: "figures.smk"
include: "tables.smk"
include: "report.smk"
include: "explorer.smk"
include: "paper.smk"
include: "artifact.smk"
include: "benchmark.smk"


if "known-answer" in MODELS:

    include: "known_answer.smk"


if SETTINGS.study:

    include: "study.smk"


# Nothing where a study's results are kept with this configuration.
WANTED = f"{SETTINGS.study}/report/run.json" if is_kept(SETTINGS) else FINISHED
