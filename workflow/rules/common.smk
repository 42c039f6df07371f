# What the rules of a run share: the checked configuration, names of models and files.

from arguments import arguments_of_each, listed
from checks import read_settings
from kept import is_kept
from machine import check_machine
from settings import HUB_LOCK, TOKENIZER_FILES, TRAINED_FILES, where_results_are

SETTINGS = read_settings(config, CONFIGFILES)
MODELS = SETTINGS.models
ABLATIONS = SETTINGS.ablations
SHARDS = SETTINGS.shards
RESULTS = SETTINGS.results
# With the second measurements, in the authors' units, and the null twins; and the ablation of all of them in shards.
TWINS = SETTINGS.twins
MEASURED = [*MODELS, *SETTINGS.as_published, *TWINS]
SHARDED = [
    (model, ablation, shard)
    for ablation in [*ABLATIONS, "units"]
    for model in SETTINGS.measured(ablation)
    for shard in range(SHARDS)
]
TRAINING_LOGS = SETTINGS.training_records("training.csv")
TRAINING_SUMMARIES = SETTINGS.training_records("training.json")
OF_REFERENCE = [
    *["heads.parquet", "agreement.parquet"],
    *["agreement.csv", "models.csv", "published.csv"],
]
REFERENCE = [
    *expand("<results>/analysis/reference/{file}", file=OF_REFERENCE),
    *expand("<results>/tables/published_norm_share.{suffix}", suffix=["tex", "csv"]),
] * bool(SETTINGS.reference)
# The studies of config/studies.yaml: the rule that answers each, and whether this run makes it.
OF_STUDIES = {
    "layers": ("summarise_units", True),
    "hand-off": ("summarise_hand_off", True),
    "threshold": ("vary_threshold", config["experiments"]["study_rows"]),
    "attribution": ("judge_estimates", config["experiments"]["study_rows"]),
    "loss": ("summarise_loss", config["experiments"]["study_rows"]),
    "distributions": (
        "summarise_distributions",
        config["experiments"]["distributions"],
    ),
}
STUDIES_BEYOND = [study for study, (_, made) in OF_STUDIES.items() if made]
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
    ablation="resample|zero|mean|units",
    shard="[0-9]+",


onstart:
    hold_lock()
    if workflow.local_exec:
        check_machine(SETTINGS)


onsuccess:
    print(where_results_are(SETTINGS))


OF_MODEL = f"{RESULTS}/analysis/{{model}}"
OF_ABLATION = f"{OF_MODEL}/{{ablation}}"
OF_SHARD = f"{RESULTS}/ablation/{{model}}/{{ablation}}/{{table}}-{{shard}}.parquet"
JOBS = [{"model": m, "ablation": a} for m in MODELS for a in ABLATIONS]
# Of every job that holds a model: what it reads, and what it asks for.
MODEL_INPUTS = {
    "model": ancient("<results>/models/{model}/folded"),
    "facts": "<results>/models/{model}/model.json",
    "tokens": "<results>/tokens/{model}/tokens.parquet",
}
MEASURING = {
    "mem_mb": lambda wildcards, attempt: SETTINGS.memory_mb(wildcards.model, attempt),
    "gpu": SETTINGS.gpus,
    "device": config["device"],
    "memory": config["memory"],
}


def every(files):
    """Files with wildcards, of all models and ablations."""
    return list(dict.fromkeys(expand(files, model=MODELS, ablation=ABLATIONS)))


def of_models(file, models=MODELS):
    return expand(f"{OF_MODEL}/{file}", model=models, allow_missing=True)


def with_studies(file, models=MODELS):
    """Function of a figure's model and ablation: the file of all models, and of those whose results are kept."""
    return lambda of: SETTINGS.of_studies(
        f"analysis/*/{file.format(**of)}"
    ) + of_models(file, models)


def beyond(study, table):
    """A table of a study, of all models that it was made of: in this run, or in results that are kept."""
    file = f"{study}/{table}.parquet"
    models = [*MODELS, *TWINS] if study in STUDIES_BEYOND else []
    kept = SETTINGS.beyond(file).items()
    return of_models(file, models) + [path for name, path in kept if name not in models]


def of_ablations(file):
    return expand(f"{OF_ABLATION}/{file}", ablation=ABLATIONS, allow_missing=True)


def of_shards(table, ablations=("{ablation}",)):
    """The files of all shards, of a model that is left open."""
    return expand(
        OF_SHARD,
        table=table,
        ablation=ablations,
        shard=range(SHARDS),
        allow_missing=True,
    )
