"""What the README shows works as it stands there: one's own model, the library from Python, single files, commands."""

import importlib.util
import re
import shlex
import shutil
import subprocess
import sys

import polars as pl
import pytest
import torch
import yaml

from selfrepair.report import claims_page
from tests.workflow.conftest import ROOT, Clone, environment, fresh_clone

MODEL = "workflow/resources/models/tiny-gpt2"
PLACE = "path/to/model"  # what readers put their own in place of
OWN = "config/mine.yaml"
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md")), *ROOT.glob("config/*.md")]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """Every call of Snakemake that a page shows in a block of commands, and those that the README's prose has."""
    found = [line for page in PAGES for block in blocks(page.read_text(), "console") for line in joined(block)]
    found += re.findall(r"`(snakemake --cores [^`]+)`", README)
    return list(dict.fromkeys(line.split("#")[0].strip() for line in found if line.startswith("snakemake ")))


def joined(block: str) -> list[str]:
    return re.sub(r"\\\n\s*", "", block).splitlines()


def snakemake(clone: Clone, command: str, *more: str) -> subprocess.CompletedProcess:
    """Run a command of a page, with some arguments more."""
    _, *arguments = shlex.split(command)
    return subprocess.run(
        [sys.executable, "-m", "snakemake", *arguments, *more],
        cwd=clone.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(),
    )


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone with the README's lines as the user's file, naming a model that is there."""
    clone = fresh_clone(tmp_path_factory.mktemp("own") / "clone")
    (lines,) = blocks(README, "yaml")
    assert PLACE in lines and len(lines.splitlines()) == 5
    (clone.root / OWN).write_text(lines.replace(PLACE, MODEL))
    return clone


OWN_COMMAND = f"snakemake --cores all --configfile {OWN}"


def test_five_lines_of_configuration_plan_a_run_on_ones_own_model(own: Clone) -> None:
    assert OWN_COMMAND in commands()
    done = snakemake(own, OWN_COMMAND, "--dry-run", "--printshellcmds")
    assert done.returncode == 0, done.stdout
    assert "results/mine/report/report.html" in done.stdout and "--heads L3H5" in done.stdout
    assert "tiny-pythia" not in done.stdout, "models of the default run have no place in it"


def test_five_lines_of_configuration_measure_ones_own_model(own: Clone) -> None:
    (own.root / "config/small.yaml").write_text(yaml.safe_dump({"tokens": {"rows": 12, "row_length": 32}}))
    target = "results/mine/analysis/my-model/resample/heads.csv"
    done = snakemake(own, f"{OWN_COMMAND} config/small.yaml", "--", target)
    assert done.returncode == 0, done.stdout
    heads = pl.read_csv(own.root / target)
    assert set(heads.select("model", "layer", "head").rows()) == {("my-model", 3, 5)}
    assert heads.filter(tokens="all", statistic="mean")["n_tokens"].unique().to_list() == [12 * 31]


def test_a_model_of_a_hub_takes_the_place_of_a_local_one(own: Clone) -> None:
    assert "`hub: owner/name`" in README
    lines = (own.root / OWN).read_text().replace(f"path: {MODEL}", "hub: owner/name")
    (own.root / "config/hub.yaml").write_text(lines)
    done = snakemake(own, "snakemake --configfile config/hub.yaml", "--dry-run")
    assert done.returncode == 0, done.stdout
    assert re.search(r"^fetch_model +1$", done.stdout, re.MULTILINE)


def test_eight_lines_of_python_measure_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    (lines,) = blocks(README, "python")
    assert len([line for line in lines.splitlines() if line]) == 8
    names: dict = {}
    exec(compile(lines, "README.md", "exec"), names)
    m = names["m"]
    assert m.self_repair.shape[:2] == (6, 8) and m.self_repair.shape[-1] == 63
    parts = m.repair_norm + m.repair_attention.sum(2) + m.repair_mlp.sum(2)
    assert torch.allclose(parts, m.self_repair, atol=1e-4)
    assert names["u"].self_repair.shape == (3, *m.logit.shape)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone with the file that readers write."""
    clone = fresh_clone(tmp_path_factory.mktemp("commands") / "clone")
    (clone.root / OWN).write_text(yaml.safe_dump({"run": "mine", "models": {"my-model": {"path": MODEL}}}))
    return clone


@pytest.mark.parametrize("command", commands())
def test_commands_of_the_pages_can_be_planned(project: Clone, command: str) -> None:
    for flag, plugin in (("--profile profiles/slurm", "slurm"), ("--executor kubernetes", "kubernetes")):
        if flag in command and importlib.util.find_spec(f"snakemake_executor_plugin_{plugin}") is None:
            pytest.skip(f"snakemake-executor-plugin-{plugin} is not installed")
    for program in ("conda", "apptainer"):
        if f"--sdm {program}" in command and shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    done = snakemake(project, command, "--dry-run")
    assert done.returncode == 0, done.stdout


def test_results_that_the_pages_name_are_made_by_the_default_run(project: Clone) -> None:
    text = "\n".join(page.read_text() for page in PAGES)
    named = sorted(set(re.findall(r"results/demo/[\w./-]*\.\w+", text)))
    assert len(named) > 5
    done = snakemake(project, f"snakemake {shlex.join(named)} --dry-run")
    assert done.returncode == 0, done.stdout


def test_one_head_leaves_the_default_run_alone(project: Clone) -> None:
    (command,) = (line for line in commands() if "results/one/" in line)
    done = snakemake(project, command, "--dry-run", "--printshellcmds")
    assert done.returncode == 0 and "--heads L3H5" in done.stdout
    assert "results/demo" not in done.stdout and "tiny-llama" not in done.stdout


def test_rules_of_the_claims_page_make_its_tables_and_figures(finished_run: Clone) -> None:
    done = finished_run.run("--summary")
    assert done.returncode == 0, done.stdout
    made = dict(re.findall(r"^(results/\S+)\t[^\t]*\t(\w+)\t", done.stdout, re.MULTILINE))
    for table, source in claims_page.TABLES.items():
        assert made[f"results/test/analysis/tiny-gpt2/{table}.parquet"] == source.rule
    for figure in claims_page.FIGURES:
        rules = {rule for file, rule in made.items() if re.match(rf"results/test/figures/{figure}\.", file)}
        assert rules == {claims_page.drawn(figure).rule}


def test_the_experiment_that_contributing_adds_runs(finished: Clone) -> None:
    """The diff of CONTRIBUTING.md applies, passes its own test and the linter, and makes its figure."""
    (diff,) = blocks((ROOT / "CONTRIBUTING.md").read_text(), "diff")
    applied = subprocess.run(["git", "apply", "-"], input=diff, cwd=finished.root, capture_output=True, text=True)
    assert applied.returncode == 0, applied.stderr
    new = re.findall(r"^\+\+\+ b/(\S+\.py)$", diff, re.MULTILINE)
    (test,) = (file for file in new if file.startswith("tests/"))
    for tool in (["ruff", "check", *new], ["ruff", "format", "--check", *new], ["pytest", test]):
        done = subprocess.run(
            [sys.executable, "-m", *tool], cwd=finished.root, capture_output=True, text=True, env=environment()
        )
        assert done.returncode == 0, done.stdout + done.stderr
    plan = finished.plan()
    assert plan["figure_position"] == 1 and plan["write_report"] == plan["paper_source"] == 1
    assert not {"ablate_heads", "summarise_heads", "figure_responders"} & set(plan)
    figure = "results/test/figures/position.tiny-gpt2.svg"
    done = finished.run(figure)
    assert done.returncode == 0, done.stdout
    assert "Position in the row" in (finished.root / figure).read_text()
