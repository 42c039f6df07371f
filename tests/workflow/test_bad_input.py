"""Bad input ends before any work, with a message that names the key or the file, and the fix."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.workflow.conftest import CONFIG, Clone

GPT2 = Path("workflow/resources/models/tiny-gpt2")
LLAMA = Path("workflow/resources/models/tiny-llama")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    from tests.workflow.conftest import fresh_clone

    return fresh_clone(tmp_path_factory.mktemp("bad") / "clone")


def add_model(**entry: object) -> Callable[[dict], object]:
    return lambda config: config["models"].update(broken=entry)


def remove(file: str) -> Callable[[Path], object]:
    return lambda model: (model / file).unlink()


def truncate(model: Path) -> None:
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])


def pickle_only(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")


def draw_tokens(model: Path) -> None:
    tokenizer = model / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text().replace('"dropout": null', '"dropout": 0.5'))


def unsupported(model: Path) -> None:
    config = json.loads((model / "config.json").read_text()) | {"model_type": "mamba"}
    (model / "config.json").write_text(json.dumps(config))


CONFIGS = {
    "unknown key": (lambda c: c.update(percentile=0.02), ["percentile", "analysis.top_fraction"]),
    "unknown inner key": (lambda c: c["tokens"].update(lenght=3), ["tokens", "lenght", "row_length"]),
    "wrong type": (lambda c: c["tokens"].update(rows="many"), ["tokens.rows", "'many' is not of type 'integer'"]),
    "unknown ablation": (lambda c: c["ablation"].update(kinds=["resample", "noise"]), ["ablation.kinds", "'noise'"]),
    "unknown corpus": (lambda c: c["tokens"].update(corpus="pile"), ["tokens.corpus", "`pile`", "python-stdlib"]),
    "missing corpus file": (
        lambda c: c["corpora"]["python-stdlib"].update(path="no.parquet"),
        ["corpora.python-stdlib.path", "no.parquet does not exist"],
    ),
    "wildcards in a path": (add_model(path="models/{x}"), ["models.broken.path", "`models/{x}`", "rename it"]),
    "wildcards in a split": (lambda c: c["tokens"].update(split="{model}"), ["tokens.split", "`{model}`", "rename it"]),
    "kept results that are not there": (
        lambda c: c.update(studies=["none"]),
        ["studies", "results/studies/none", "remove"],
    ),
    "missing model directory": (add_model(path="no/such"), ["models.broken", "no/such does not exist"]),
    "hub and path": (
        add_model(hub="a/b", path="c"),
        ["models.broken", "A local directory or GGUF file (`path`), a model of a hub"],
    ),
    "revision and resolve": (add_model(hub="a/b", revision="0" * 40, resolve="main"), ["models.broken", "`resolve`"]),
    "missing reference": (lambda c: c.update(reference="no.csv"), ["reference: no.csv does not exist"]),
    "as published, with LayerNorm": (
        lambda c: c["models"]["tiny-gpt2"].update(as_published=True),
        ["models.tiny-gpt2", "RMSNorm only", "`gpt2`"],
    ),
    "not a number": (lambda c: c["analysis"].update(top_fraction=float("nan")), ["analysis.top_fraction", "nan"]),
    "infinite": (lambda c: c["tokens"].update(rows=float("inf")), ["tokens.rows", "inf is no number"]),
    "float for an integer": (lambda c: c["tokens"].update(rows=24.0), ["tokens.rows", "24.0 is not of type 'integer'"]),
    "huge seed": (lambda c: c.update(seed=2**64), ["seed", "greater than the maximum"]),
    "more shards than can be planned": (lambda c: c["tokens"].update(rows=10**18), ["tokens_per_shard", "raise it"]),
    "a name of dots": (lambda c: c["models"].update({"..": {"path": "x"}}), ["models", "unknown key .."]),
    "a hub id of dots": (add_model(hub="../x"), ["models.broken", "'../x'"]),
    "an option for a value": (
        lambda c: c["tokens"].update(kinds=["--output", "x"]),
        ["tokens.kinds", "`--output` begins with a dash"],
    ),
    "a name that ends in a newline": (lambda c: c.update(run="test\n"), ["run", "can't be printed"]),
    "a head twice": (lambda c: c["models"]["tiny-gpt2"].update(heads=["L2H1", "L02H01"]), ["heads", "L02H01"]),
    "short revision": (add_model(hub="a/b", revision="main"), ["models.broken", "revision"]),
    "head out of range": (
        lambda c: c["models"]["tiny-gpt2"].update(heads=["L6H0"]),
        ["models.tiny-gpt2.heads", "L6H0 is out of range", "0 to 5"],
    ),
    "head to highlight out of range": (
        lambda c: c["models"]["tiny-gpt2"].update(highlight_heads=["L0H8"]),
        ["models.tiny-gpt2.highlight_heads", "L0H8 is out of range"],
    ),
    "head to highlight that is not measured": (
        lambda c: c["models"]["tiny-pythia"].update(highlight_heads=["L2H1", "L0H0"]),
        ["models.tiny-pythia.highlight_heads", "L0H0 must be among `heads`"],
    ),
    "neurons of a layer that is not there": (
        lambda c: c["experiments"].update(neuron_layers=[-1, 6]),
        ["experiments.neuron_layers", "6 layers, so not 6; -1 is the last"],
    ),
    "unknown prompts": (
        lambda c: c["tokens"].update(prompts="sums"),
        ["tokens.prompts", "'sums'", "one of arithmetic, induction, copying, ioi"],
    ),
    "unknown distribution": (
        lambda c: c["experiments"].update(distributions=["prose", "poems"]),
        ["experiments.distributions.1", "'poems' is not one of ['prose', 'code'"],
    ),
    "no distribution of text": (
        lambda c: c["experiments"].update(distributions=["ioi"]),
        ["experiments.distributions", "kinds of the corpus"],
    ),
    "reserved run name": (lambda c: c.update(run="hub"), ["run", "not hub, studies or built"]),
    "no run name": (lambda c: c.pop("run"), ["'run' is a required property"]),
    "model name that is a number": (
        lambda c: c["models"].update({1: c["models"]["tiny-gpt2"]}),
        ["models.1", "quotes"],
    ),
    "model name with a space": (
        lambda c: c["models"].update({"my model": c["models"]["tiny-gpt2"]}),
        ["models: unknown key my model;", "letters, digits"],
    ),
    "rows too long": (lambda c: c["tokens"].update(row_length=129), ["tokens.row_length", "128 positions"]),
    "unknown training": (
        lambda c: c["models"]["tiny-gpt2"].update(training="huge"),
        ["models.tiny-gpt2.training", "`huge`", "tiny-gpt2"],
    ),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_a_bad_configuration_is_refused_at_once(project: Clone, case: str) -> None:
    change, named = CONFIGS[case]
    refused(project, project.configure("bad.yaml", change), named)


MODELS = {
    "no config": (remove("config.json"), ["config.json is missing"]),
    "no weights": (remove("model.safetensors"), ["holds no *.safetensors"]),
    "no tokenizer": (lambda m: [f.unlink() for f in m.glob("tokenizer*")], ["holds no tokenizer"]),
    "tokens by chance": (draw_tokens, ["tokenizer.json: with a `dropout` of 0.5", "set it to null"]),
    "truncated weights": (truncate, ["model.safetensors", "fetch it again"]),
    "pickle": (pickle_only, ["pytorch_model.bin", "pickle", "model.safetensors"]),
    "unsupported architecture": (unsupported, ["`mamba` is not supported", "gpt_neox"]),
}


@pytest.mark.parametrize("case", MODELS)
def test_a_bad_model_directory_is_refused_at_once(project: Clone, tmp_path: Path, case: str) -> None:
    damage, named = MODELS[case]
    model = tmp_path / "model"
    shutil.copytree(project.root / GPT2, model)
    damage(model)
    refused(project, project.configure("bad.yaml", add_model(path=str(model))), ["models.broken", *named])


LOCKED = "models:\n  a/b: {revision: %s, files: {}}\ndatasets: {}\n"


def test_a_revision_other_than_the_locks_is_refused(project: Clone) -> None:
    lock = project.root / "config/hub.lock.yaml"
    shipped = lock.read_text()
    lock.write_text(LOCKED % ("'" + "1" * 40 + "'"))
    config = project.configure("bad.yaml", add_model(hub="a/b", revision="2" * 40))
    refused(project, config, ["models.broken", "1" * 40, "2" * 40, "hub.lock.yaml"])
    lock.write_text(LOCKED % "main")
    refused(project, config, ["models.broken", "a/b must have `revision`, a full commit hash"])
    lock.write_text(shipped)


def test_what_was_fetched_at_another_commit_than_the_locks_is_not_used(project: Clone) -> None:
    """The lock is no input of any rule, so Snakemake would not notice."""
    lock, record = project.root / "config/hub.lock.yaml", project.root / "results/hub/records/models/broken.json"
    shipped = lock.read_text()
    lock.write_text(LOCKED % ("'" + "1" * 40 + "'"))
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"hub": "a/b", "revision": "2" * 40, "files": {}}))
    refused(
        project, project.configure("bad.yaml", add_model(hub="a/b")), [str(record.relative_to(project.root)), "delete"]
    )
    lock.write_text(shipped)
    record.unlink()


@pytest.mark.parametrize("config", ["config/paper.yaml", "config/paper-quick.yaml"])
def test_the_papers_models_are_planned_without_any_of_them_here(project: Clone, config: str) -> None:
    models = yaml.safe_load((project.root / config).read_text())["models"]
    plan = project.plan(config)
    assert plan["fetch_model"] == len(models)
    assert plan["fold_model"] == 2 * len(models), "each has a null twin"
    assert plan["fetch_corpus"] == 1


def with_llama(project: Clone) -> str:
    """`paper.yaml` with the model that has to be brought."""
    text = (project.root / "config/paper.yaml").read_text()
    lines = ("llama-7b:", "  path: path/to/llama-7b", "  highlight_heads: [L30H8]", "  as_published: true")
    for line in lines:
        assert f"  # {line}\n" in text
        text = text.replace(f"  # {line}\n", f"  {line}\n")
    return text


def test_the_papers_commands_are_not_longer_than_a_system_takes(project: Clone) -> None:
    """Linux takes 128 KiB in one argument, and a command is one argument of the shell."""
    text = with_llama(project).replace("path/to/llama-7b", str(LLAMA)).replace("[L30H8]", "[L1H1]")
    (project.root / "all.yaml").write_text(text)
    done = project.run("--dry-run", "--printshellcmds", config="all.yaml")
    assert done.returncode == 0 and "llama-7b-as-published" in done.stdout, done.stdout[-4000:]
    commands = re.findall("^Shell command: (.+)$", done.stdout, re.MULTILINE)
    assert len(commands) > 600 and sum("workflow/scripts/record_crate.py" in command for command in commands) == 1
    longest = max(commands, key=len)
    assert len(longest) < 2**17 / 2, f"{len(longest)} bytes, half of the limit is to be kept free: {longest[:200]}"


def test_llama_says_what_its_missing_path_is_for(project: Clone) -> None:
    (project.root / "llama.yaml").write_text(with_llama(project))
    refused(project, "llama.yaml", ["models.llama-7b", "path/to/llama-7b does not exist", "set the model's `path`"])


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        ("tokens: {rows: 012}", "`tokens.rows: 012` is no plain number"),
        ("tokens: {rows: 1:30}", "`tokens.rows: 1:30` is no plain number"),
        ("tokens: {<<: {rows: 9}}", "merging is not supported"),
        ("tokens: &self [{kinds: *self}]", "`tokens[0].kinds` is an alias of what it stands in; write out"),
    ],
)
def test_what_yaml_would_read_as_something_else_is_refused(project: Clone, odd: str, said: str) -> None:
    (project.root / "odd.yaml").write_text(f"run: odd\n{odd}\n")
    refused(project, "odd.yaml", ["odd.yaml", said])


def test_two_models_of_one_name_are_refused(project: Clone) -> None:
    text = (project.root / CONFIG).read_text()
    twice = text.replace("models:\n", "models:\n  tiny-pythia:\n    path: elsewhere\n")
    (project.root / "twice.yaml").write_text(twice)
    refused(project, "twice.yaml", ["`models.tiny-pythia` is there twice", "rename or remove one"])


def test_a_results_path_that_is_no_folder_is_refused(project: Clone) -> None:
    (project.root / "results").mkdir(exist_ok=True)
    (project.root / "results/blocked").write_text("a file where a folder should be")
    config = project.configure("bad.yaml", lambda c: c.update(run="blocked"))
    refused(project, config, ["results/blocked", "choose another `run`"])


def test_a_corpus_with_too_few_tokens_is_refused_before_anything_long(project: Clone) -> None:
    config = project.configure("few.yaml", lambda c: c["tokens"].update(rows=10_000))
    done = project.run("results/test/tokens/tiny-gpt2/tokens.parquet", config=config)
    assert done.returncode != 0
    assert "10,000 rows were asked for; lower `tokens.rows`" in done.stdout


def test_a_corpus_with_another_checksum_is_refused(project: Clone) -> None:
    config = project.configure("sum.yaml", lambda c: c["corpora"]["python-stdlib"].update(sha256="0" * 64))
    done = project.run("results/test/tokens/tiny-pythia/tokens.parquet", config=config)
    assert done.returncode != 0
    assert "has SHA-256" in done.stdout and "restore the file" in done.stdout


def refused(project: Clone, config: str, named: list[str]) -> None:
    done = project.run("--dry-run", config=config)
    assert done.returncode != 0
    assert "Traceback" not in done.stdout
    for part in named:
        assert part in done.stdout, done.stdout[-2000:]
