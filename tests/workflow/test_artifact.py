"""The record of the small run, its verification, and an archive of it, unpacked elsewhere."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl

from selfrepair.artifact.crate import read_crate
from selfrepair.core.files import sha256
from selfrepair.report.costs import COSTS
from selfrepair.report.html import duration
from tests.workflow.conftest import Clone, environment

RUN = Path("results/test")
GIT = ["git", "-c", "user.name=n", "-c", "user.email=n@example.org"]


def program(root: Path, name: str, *arguments: str) -> subprocess.CompletedProcess:
    """Run a program of the workflow in a checkout, with the package that is in it."""
    return subprocess.run(
        [sys.executable, f"workflow/scripts/{name}.py", "--run", str(RUN), *arguments],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment() | {"PYTHONPATH": str(root / "src"), "HF_HUB_OFFLINE": "1"},
    )


def states(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Inode, size and time of every file, which change if it is written, even with the same bytes."""
    found = {str(path): path.stat() for path in folder.rglob("*") if path.is_file()}
    return {name: (state.st_ino, state.st_size, state.st_mtime_ns) for name, state in found.items()}


def test_the_record_knows_every_file_and_the_rows_are_recomputed(finished_run: Clone) -> None:
    before = states(finished_run.root / "results")
    done = program(finished_run.root, "verify_run", "--sample", "10", "--seed", "1")
    assert done.returncode == 0, done.stdout
    for model in ("tiny-gpt2", "tiny-pythia"):
        for kind in ("resample", "zero"):
            assert f"ok      {model}, {kind}: 10 token rows" in done.stdout
    assert " statistics, tables, verdicts and macros are what the measurements give" in done.stdout
    assert "no other results lie in the run's folder" in done.stdout
    assert states(finished_run.root / "results") == before, "verifying writes nothing"


def rerecord(root: Path, *names: str) -> None:
    """Write the SHA-256 of changed results into the record, as one would who hides the change."""
    path = root / RUN / "ro-crate-metadata.json"
    document = json.loads(path.read_text())
    for entity in document["@graph"]:
        if entity["@id"] in names:
            entity["sha256"] = sha256(root / RUN / entity["@id"])
    path.write_text(json.dumps(document))


def test_altered_statistics_verdicts_and_macros_are_found_even_if_the_record_is_made_to_fit(finished: Clone) -> None:
    layers, claims, macros = "analysis/tiny-gpt2/resample/layers.parquet", "report/claims.json", "paper/macros.tex"
    folder = finished.root / RUN
    pl.read_parquet(folder / layers).with_columns(pl.col("low") * 1.5).write_parquet(folder / layers)
    for file, old, new in ((claims, "undecided", "held"), (macros, r"\newcommand{\Seed}{1}", r"\newcommand{\Seed}{2}")):
        text = (folder / file).read_text()
        assert old in text
        (folder / file).write_text(text.replace(old, new, 1))
    rerecord(finished.root, layers, claims, macros)
    done = program(finished.root, "verify_run", "--sample", "2", "--seed", "1")
    assert done.returncode == 1 and "3 results are not what its measurements give" in done.stdout, done.stdout
    assert f"FAILED  {layers}: made again from what was measured it is another" in done.stdout


def test_an_edited_module_is_found_though_the_checkout_is_whole_again(finished: Clone) -> None:
    file = "src/selfrepair/figures/responders.py"
    was = (finished.root / file).read_text()
    finished.edit(file, lambda text: text + "\n# an edit\n")
    assert finished.run().returncode == 0
    (finished.root / file).write_text(was)
    done = program(finished.root, "verify_run", "--no-again")
    assert done.returncode == 1 and f"FAILED  ../../{file}: this input is not what was recorded" in done.stdout


def test_the_record_names_weights_corpus_claims_and_code(finished_run: Clone) -> None:
    inputs = read_crate(finished_run.root / RUN).inputs
    resources = "../../workflow/resources"
    code = ("src/selfrepair/ablation/sweep.py", "workflow/scripts/ablate_heads.py", "workflow/rules/ablation.smk")
    assert {f"../../{name}" for name in (*code, "src/selfrepair/report/templates/report.html.j2")} <= set(inputs)
    assert f"{resources}/models/tiny-gpt2/model.safetensors" in inputs
    assert {f"{resources}/corpora/python-stdlib/corpus.parquet", "../../config/claims.yaml"} <= set(inputs)


def test_page_and_table_show_the_same_costs(finished_run: Clone) -> None:
    table = pl.read_csv(finished_run.root / RUN / "report/costs.csv")
    page = (finished_run.root / RUN / "report/report.html").read_text()
    section = page[page.index('id="costs"') : page.index('id="run"')]
    rows = [re.findall(r"<(?:code|td)[^>]*>([^<]+)<", row) for row in section.split("<tr>")]
    shown = {row[0]: row[1:] for row in rows if len(row) == len(COSTS)}
    times = ["wall_time", "cpu_time", "gpu_time"]
    expected = {
        row["rule"]: [str(row["jobs"]), *(duration(row[name]) for name in times), f"{round(row['memory']):,}"]
        for row in table.to_dicts()
    }
    assert shown == expected and table.filter(rule="ablate_heads")["wall_time"].item() > 0


def test_an_archive_is_reproducible_and_unpacked_it_is_verified_and_reruns_nothing(
    finished: Clone, tmp_path: Path
) -> None:
    subprocess.run(["git", "init", "--quiet"], cwd=finished.root, check=True)
    subprocess.run(["git", "add", "--all"], cwd=finished.root, check=True)
    subprocess.run([*GIT, "commit", "--quiet", "--message", "all"], cwd=finished.root, check=True)
    refused = program(finished.root, "archive_run", "--output", str(tmp_path / "first.tar.gz"))
    assert refused.returncode == 1 and "--forcerun record_run" in refused.stdout, "it was made outside Git"
    again = finished.run("--forcerun", "record_run")
    assert again.returncode == 0, again.stdout
    for name in ("first", "second"):
        done = program(finished.root, "archive_run", "--output", str(tmp_path / f"{name}.tar.gz"))
        assert done.returncode == 0, done.stdout
    assert (tmp_path / "first.tar.gz").read_bytes() == (tmp_path / "second.tar.gz").read_bytes()
    assert "bytes, SHA-256 " in done.stdout and "not packed" not in done.stdout

    subprocess.run(["tar", "-xzf", "first.tar.gz"], cwd=tmp_path, check=True)
    unpacked = Clone(tmp_path / "selfrepair-test")
    assert unpacked.plan() == {}
    done = program(unpacked.root, "verify_run", "--sample", "2", "--seed", "1")
    assert done.returncode == 0, done.stdout
    commit = json.loads((unpacked.root / RUN / "report/run.json").read_text())["commit"]
    assert commit in (unpacked.root / RUN / "ro-crate-metadata.json").read_text()


def test_a_run_whose_results_are_kept_runs_again_only_when_asked_or_changed(finished: Clone) -> None:
    study = finished.configure("study.yaml", lambda config: config.update(study="kept"))
    kept = finished.run("keep_study", config=study)
    assert kept.returncode == 0, kept.stdout
    page = (finished.root / "results/studies/kept/README.md").read_text()
    assert "`snakemake --cores all --configfile study.yaml compare_study`" in page
    shutil.rmtree(finished.root / "results/test")
    assert finished.plan(study) == {}
    assert "ablate_heads" in finished.plan(study, ["compare_study"])
    changed = finished.configure("changed.yaml", lambda config: config.update(study="kept", seed=2))
    assert "ablate_heads" in finished.plan(changed)


def test_a_run_is_compared_with_what_is_kept_and_can_show_it(finished: Clone) -> None:
    study = finished.configure("study.yaml", lambda config: config.update(study="kept"))
    for target in ("keep_study", "compare_study"):
        done = finished.run(target, config=study)
        assert done.returncode == 0, done.stdout
    assert "verdicts agree" in (finished.root / RUN / "logs/comparison.txt").read_text()
    verified = program(finished.root, "verify_run", "--no-again")
    assert verified.returncode == 0, verified.stdout  # what was compared is no result that the record lacks
    for model in ("tiny-gpt2", "tiny-gpt2-shuffled"):
        folder = finished.root / "results/studies/kept/analysis"
        (folder / model).rename(folder / model.replace("tiny-gpt2", "kept-gpt2"))
    beside = finished.configure("beside.yaml", lambda config: config.update(studies=["kept"]))
    done = finished.run(f"{RUN}/paper/source.zip", config=beside)
    assert done.returncode == 0, done.stdout
    assert "table_claims_of_studies" in done.stdout
