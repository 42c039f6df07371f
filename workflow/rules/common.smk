# What all rules share: the checked configuration, names of models and files, the environment of every command.

import json
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
RESULTS = SETTINGS.results
# With the second measurements, in the authors' units, and the null twins; and the ablation of all of them in shards.
TWINS = SETTINGS.twins
MEASURED = [*MODELS, *SETTINGS.as_published, *TWINS]
SHARDED = [
    (model, ablation, shard)
    for ablation in ABLATIONS
    for model in SETTINGS.measured(ablation)
    for shard in range(SHARDS)
]
TRAINING_LOGS = SETTINGS.training_records("training.csv")
TRAINING_SUMMARIES = SETTINGS.training_records("training.json")
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


OF_MODEL = f"{RESULTS}/analysis/{{model}}"
OF_ABLATION = f"{OF_MODEL}/{{ablation}}"
TOKEN_FILES = f"{RESULTS}/ablation/{{model}}/{{ablation}}/tokens-{{shard}}.parquet"
# What a job that holds a model asks for.
MEASURING = {
    "mem_mb": lambda wildcards, attempt: SETTINGS.memory_mb(wildcards.model, attempt),
    "gpu": SETTINGS.gpus,
    "device": config["device"],
    "memory": config["memory"],
}


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


def arguments_of_each(target, tables, texts=()):
    """Arguments of every figure of a kind, as `figure:argument=value`, and the files among them."""
    named, files = {}, {}
    for model in MODELS:
        for ablation in ABLATIONS:
            of = {"model": model, "ablation": ablation}
            name = target.format(**of)
            for text in texts:
                named[f"{name}:{text.format(**of)}"] = None
            for argument, paths in tables.items():
                for path in [paths] if isinstance(paths, str) else paths:
                    file = path.format(**of)
                    named[f"{name}:{argument}={file}"] = files[file] = None
    return list(named), list(files)


def every(files):
    """Files with wildcards, of all models and ablations."""
    return list(dict.fromkeys(expand(files, model=MODELS, ablation=ABLATIONS)))


def listed(wildcards, input):
    """File with the paths for record_crate: of a large run they are more than a command line may hold."""
    path = Path(".snakemake") / f"recorded.{config['run']}.json"
    path.write_text(
        json.dumps({"files": list(input.files), "inputs": list(input.sources)})
    )
    return path


def of_models(file, models=MODELS):
    return expand(f"{OF_MODEL}/{file}", model=models, allow_missing=True)


def of_ablations(file):
    return expand(f"{OF_ABLATION}/{file}", ablation=ABLATIONS, allow_missing=True)


def token_rows(ablations):
    return expand(
        TOKEN_FILES, ablation=ablations, shard=range(SHARDS), allow_missing=True
    )
