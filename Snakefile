from snakemake.utils import min_version

min_version("9.18")


# Only with `--sdm apptainer`; envs/apptainer.def says how the image is built.
container: "envs/selfrepair.sif"


report: "workflow/report/workflow.rst"


# A configuration file given on the command line replaces the default one instead of being mixed with it.
if not workflow.overwrite_configfiles:

    configfile: "config/demo.yaml"


include: "workflow/rules/common.smk"


pathvars:
    results=SETTINGS.results,
    logs=f"{SETTINGS.results}/logs",
    benchmarks=f"{SETTINGS.results}/benchmarks",


include: "workflow/rules/tokens.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/ablation.smk"
include: "workflow/rules/analysis.smk"


if SETTINGS.reference:

    include: "workflow/rules/reference.smk"


include: "workflow/rules/figures.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/explorer.smk"
include: "workflow/rules/paper.smk"
include: "workflow/rules/artifact.smk"
include: "workflow/rules/benchmark.smk"


if "known-answer" in MODELS:

    include: "workflow/rules/known_answer.smk"


if SETTINGS.study:

    include: "workflow/rules/study.smk"


rule all:
    """Every deliverable of a run; nothing where a study's results are kept with this configuration."""
    default_target: True
    input:
        f"{SETTINGS.study}/report/run.json" if is_kept(SETTINGS) else FINISHED,


for each in workflow.rules:
    each.set_params(content=content_of(list(each.input), made="results/"))
