# What all rules share: the checked configuration, names of models and files, the environment of every command.

import sys
from pathlib import Path

# Found from here, as there are two files from which the workflow can start.
ROOT = Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).parents[1]
sys.path[:0] = [f"{ROOT}/workflow/lib", f"{ROOT}/src"]

from checks import read_settings
from closure import code
from environment import command_prefix
from locking import hold_lock
from report_marks import FIGURE_SUFFIXES, figure_files, shown
from settings import (
    HUB_LOCK,
    TOKENIZER_FILES,
    TRAINED_FILES,
    where_results_are,
)

shell.prefix(command_prefix(str(ROOT)))

SETTINGS = read_settings(config, workflow.overwrite_configfiles or ["config/demo.yaml"])
MODELS = SETTINGS.models
ABLATIONS = SETTINGS.ablations
SHARDS = SETTINGS.shards
# With the second measurements, in the authors' units, and the ablation of all of them in shards.
MEASURED = [*MODELS, *SETTINGS.as_published]
SHARDED = [
    (model, ablation, shard)
    for ablation in ABLATIONS
    for model in SETTINGS.measured(ablation)
    for shard in range(SHARDS)
]
SHARD_JOBS = [f"{model}.{ablation}.{shard}" for model, ablation, shard in SHARDED]
SHARD_FILES = [f"{model}/{ablation}/sums-{shard}" for model, ablation, shard in SHARDED]
TRAINING_LOGS = SETTINGS.training_records("training.csv")
TRAINING_SUMMARIES = SETTINGS.training_records("training.json")
NEURON_FIGURES = [
    "neuron_sparsity",
    "neuron_cumulative",
    "erasure_scatter",
    "neuron_histograms",
    "neuron_frequency",
]
FIGURES = [
    *expand("self_repair_by_depth.{ablation}", ablation=ABLATIONS),
    *expand("effect_scatter.{model}.{ablation}", model=MODELS, ablation=ABLATIONS),
    *expand("repair_split.{ablation}", ablation=ABLATIONS),
    *expand("repair_share.{ablation}", ablation=ABLATIONS),
    *expand("responders.{ablation}", ablation=ABLATIONS),
    *expand("repair_by_depth.{ablation}", ablation=ABLATIONS),
    *expand("repair_breakdown.{ablation}", ablation=ABLATIONS),
    *expand("norm_scale.{model}", model=MODELS),
    *expand("ablation_types.{model}", model=MODELS),
    *expand("noise.{model}", model=MODELS),
    "noise_components",
    *expand("{figure}.{model}", figure=NEURON_FIGURES, model=MODELS),
    *(["training_loss"] if TRAINING_LOGS else []),
    "layer_moving",
    "self_repression",
    *(["as_published"] if SETTINGS.as_published else []),
]
if SETTINGS.reference:
    FIGURES.append("reference_scatter")
REFERENCE = (
    [
        *expand("<results>/analysis/reference/{t}.parquet", t=["heads", "agreement"]),
        *expand(
            "<results>/analysis/reference/{t}.csv",
            t=["agreement", "models", "published"],
        ),
        *expand(
            "<results>/tables/published_norm_share.{suffix}", suffix=["tex", "csv"]
        ),
    ]
    if SETTINGS.reference
    else []
)
TABLES = ["models", "layers", "heads", "norm", "claims", "erasure_neurons"]
REPORT = [
    "<results>/report/report.html",
    "<results>/report/explorer.html",
    *expand("<results>/analysis/{model}/explorer.json", model=MODELS),
    "<results>/report/claims.json",
    "<results>/report/run.json",
]
TYPESET = SETTINGS.typeset
PAPER = [
    "<results>/paper/source.zip",
    *(["<results>/paper/paper.pdf"] if TYPESET else []),
]


wildcard_constraints:
    model="[A-Za-z0-9._-]+",
    ablation="resample|zero|mean",
    shard="[0-9]+",


onstart:
    hold_lock()


onsuccess:
    print(where_results_are(SETTINGS))


def arguments(tables, texts=()):
    """Function that gives a program's arguments, as `name=value`: files of a rule by the name of their input, and texts."""

    def of(wildcards, input):
        texts_of_job = (
            texts(wildcards)
            if callable(texts)
            else [text.format(**wildcards) for text in texts]
        )
        files = {name: input[name] for name in tables}
        return texts_of_job + [
            f"{name}={file}"
            for name, of_name in files.items()
            for file in ([of_name] if isinstance(of_name, str) else of_name)
        ]

    return of


def listed(wildcards, input):
    """File with the arguments of record_crate: of a large run they are more than a command line may hold."""
    path = Path(".snakemake") / f"recorded.{config['run']}.txt"
    lines = ["--files", *input.files, "--inputs", *input.sources]
    path.write_text("\n".join(lines) + "\n")
    return path
