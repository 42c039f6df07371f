# What all rules share: the checked configuration, names of models and files, the environment of every command.

import sys

sys.path[:0] = [f"{workflow.basedir}/workflow/lib", f"{workflow.basedir}/src"]

from closure import code
from environment import command_prefix
from locking import hold_lock
from settings import TOKENIZER_FILES, TRAINED_FILES, closing_message, read_settings

shell.prefix(command_prefix(workflow.basedir))

SETTINGS = read_settings(config, workflow.overwrite_configfiles or ["config/demo.yaml"])
MODELS = SETTINGS.models
ABLATIONS = SETTINGS.ablations
SHARDS = SETTINGS.shards
TRAINING_LOGS = SETTINGS.training_records("training.csv")
TRAINING_SUMMARIES = SETTINGS.training_records("training.json")
FIGURE_SUFFIXES = ["json", "pdf", "svg", "png", "html"]
FIGURES = [
    *expand("self_repair_by_depth.{ablation}", ablation=ABLATIONS),
    *expand("effect_scatter.{model}.{ablation}", model=MODELS, ablation=ABLATIONS),
    *expand("repair_split.{ablation}", ablation=ABLATIONS),
    *expand("repair_share.{ablation}", ablation=ABLATIONS),
    *expand("responders.{ablation}", ablation=ABLATIONS),
    *(["training_loss"] if TRAINING_LOGS else []),
]
TABLES = ["models", "layers", "heads", "claims"]
REPORT = [
    "<results>/report/report.html",
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
    print(closing_message(SETTINGS))
