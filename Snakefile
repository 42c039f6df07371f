from snakemake.utils import min_version

min_version("9.18")


# Only with `--sdm apptainer`; envs/apptainer.def says how the image is built.
container: "envs/selfrepair.sif"


report: "workflow/report/workflow.rst"


# A configuration file given on the command line replaces the default one instead of being mixed with it.
if not workflow.overwrite_configfiles:

    configfile: "config/demo.yaml"


include: "workflow/rules/setup.smk"


if "arms" in config:

    include: "workflow/rules/family.smk"

else:

    include: "workflow/rules/run.smk"


rule all:
    """Every deliverable; nothing where the results are kept with this configuration."""
    default_target: True
    input:
        WANTED,


# What rules make; else what lies under results/ is a source, too, such as results that are kept.
MADE = (f"results/{config['run']}/", "results/hub/", "results/built/")
for each in workflow.rules:
    each.set_params(content=content_of(list(each.input), MADE))
