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
include: "workflow/rules/neurons.smk"


if SETTINGS.reference:

    include: "workflow/rules/reference.smk"


include: "workflow/rules/figures.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/explorer.smk"
include: "workflow/rules/paper.smk"
include: "workflow/rules/benchmark.smk"


rule all:
    """Every deliverable of a run."""
    default_target: True
    input:
        expand(
            "<results>/figures/{figure}.{suffix}",
            figure=FIGURES,
            suffix=FIGURE_SUFFIXES,
        ),
        expand("<results>/tables/{table}.{suffix}", table=TABLES, suffix=["tex", "csv"]),
        expand(
            "<results>/analysis/{model}/{ablation}/{table}.{suffix}",
            model=MODELS,
            ablation=ABLATIONS,
            table=["heads", "layers", "responders", "norm"],
            suffix=["parquet", "csv"],
        ),
        expand(
            "<results>/analysis/{model}/{ablation}/norm_check.csv",
            model=MODELS,
            ablation=ABLATIONS,
        ),
        expand(
            "<results>/analysis/{model}/{table}",
            model=MODELS,
            table=["chosen_heads.csv", "noise.parquet", "noise.csv"],
        ),
        expand(
            "<results>/analysis/{model}/resample/{table}.{suffix}",
            model=SETTINGS.as_published,
            table=["heads", "layers"],
            suffix=["parquet", "csv"],
        ),
        expand(
            "<results>/analysis/{model}/iterative/{table}.csv",
            model=MODELS,
            table=["moving", "simulated", "repression", "iterative_summary"],
        ),
        expand(
            "<results>/analysis/{model}/neurons/{table}.{suffix}",
            model=MODELS,
            table=NEURON_SUMMARIES,
            suffix=["parquet", "csv"],
        ),
        "<results>/analysis/models.csv",
        REFERENCE,
        REPORT,
        PAPER,
