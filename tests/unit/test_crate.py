"""The record of a run: a flat document whose references resolve, with every file, input, setting, package and cost."""

import hashlib
import json
import re
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import pytest

from selfrepair import __version__
from selfrepair.artifact.crate import METADATA, CrateError, _values, files_in, read_crate
from selfrepair.report.costs import COSTS
from tests.helpers.small_run import CONFIG, RUN, make_record, make_run

DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def made(zoo, tmp_path_factory) -> Path:
    return make_run(zoo, tmp_path_factory.mktemp("run"))


@pytest.fixture
def root(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(made)
    return made


@pytest.fixture
def graph(root: Path) -> dict[str, dict]:
    document = json.loads((RUN / METADATA).read_text())
    entities = {entity["@id"]: entity for entity in document["@graph"]}
    assert len(entities) == len(document["@graph"]), "every entity is described once"
    return entities


def references(value: object) -> list[str]:
    if isinstance(value, list):
        return [found for part in value for found in references(part)]
    return [value["@id"]] if isinstance(value, dict) else []


def test_descriptor_and_root_are_as_the_specification_wants(graph: dict[str, dict]) -> None:
    descriptor, root = graph[METADATA], graph["./"]
    assert descriptor["about"] == {"@id": "./"} and descriptor["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.2"}
    assert root["@type"] == "Dataset" and root["name"] and root["description"] and root["license"]["@id"] in graph
    assert root["conformsTo"] == {"@id": "https://w3id.org/ro/wfrun/process/0.5"}


def test_the_document_is_flat_and_every_reference_resolves(graph: dict[str, dict]) -> None:
    for entity in graph.values():
        assert {"@id", "@type"} <= set(entity)
        for value in entity.values():
            nested = [value] if isinstance(value, dict) else value if isinstance(value, list) else []
            assert all(set(part) == {"@id"} for part in nested if isinstance(part, dict))
            assert set(references(value)) <= {*graph, "https://w3id.org/ro/crate/1.2"}, "the specification is no part"


def test_every_term_is_defined(graph: dict[str, dict]) -> None:
    """Terms of the RO-Crate 1.2 context, as far as they are used, and the one that the document brings along."""
    context = {"about", "additionalProperty", "conformsTo", "contentSize", "datePublished", "description"}
    context |= {"encodingFormat", "hasPart", "instrument", "license", "localPath", "mentions", "name", "object"}
    context |= {"propertyID", "result", "sha256", "softwareRequirements", "unitCode", "url", "value", "version"}
    used = {key for entity in graph.values() for key in entity} - {"@id", "@type"}
    assert used <= context | {"resourceUsage"}


def test_software_has_name_version_and_address(graph: dict[str, dict]) -> None:
    software = {e["name"]: e for e in graph.values() if e["@type"] == "SoftwareApplication"}
    assert all(re.fullmatch(r"https://\S+", entity["url"]) and entity["version"] for entity in software.values())
    assert software["Snakemake"]["version"] == version("snakemake")
    assert software["polars"]["url"] == "https://pypi.org/project/polars/"
    assert "selfrepair" not in software, "it has no address that is known"
    assert graph["#made-with-version"]["value"] == __version__


def test_what_lies_outside_is_no_data_entity(graph: dict[str, dict]) -> None:
    """A file that is one has a path in the crate or an address; others are files with a local identifier only."""
    for name, entity in graph.items():
        if "File" in entity["@type"]:
            assert entity["@type"] == "File" and name.startswith("#") == ("localPath" in entity)


def test_without_git_the_date_is_that_of_the_record(root: Path, graph: dict[str, dict]) -> None:
    date = json.loads((RUN / "report/run.json").read_text())["date"]
    assert graph["./"]["datePublished"] == date and datetime.now(UTC) - datetime.fromisoformat(f"{date}T00Z") < DAY * 2


def test_with_git_the_date_is_that_of_the_commit(made: Path, tmp_path: Path, monkeypatch) -> None:
    shutil.copytree(made, tmp_path / "checkout")
    monkeypatch.chdir(tmp_path / "checkout")
    git = ["git", "-c", "user.name=n", "-c", "user.email=n@example.org"]
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "first"]):
        subprocess.run([*git, *command], check=True)
    entities = {entity["@id"]: entity for entity in make_record()["@graph"]}
    date = subprocess.run(["git", "log", "-1", "--format=%cI"], capture_output=True, check=True, text=True).stdout
    assert entities["./"]["datePublished"] == entities["#made-with-date"]["value"] == date.strip()
    assert entities["#made-with-modified"]["value"] is False


def test_values_are_numbers_and_booleans_and_what_is_null_is_left_out(root: Path, graph: dict[str, dict]) -> None:
    assert "#made-with-commit" not in graph and "#made-with-modified" not in graph, "there is no Git here"
    values = [entity["value"] for entity in graph.values() if entity["@type"] == "PropertyValue"]
    assert not [value for value in values if value in (None, "None", "True", "False")]
    assert {"@id": "#made-with-python"} in graph["#run"]["additionalProperty"]
    nested = {"a": None, "b": {"c": True, "d": [1, "x"]}, "e": 0.5}
    assert [(e["name"], e["value"]) for e in _values("kind", nested)] == [("b.c", True), ("b.d", "1, x"), ("e", 0.5)]


def test_parts_are_the_files_of_the_run_with_size_and_checksum(root: Path, graph: dict[str, dict]) -> None:
    files = {path.relative_to(RUN).as_posix() for path in RUN.rglob("*") if path.is_file()} - {METADATA}
    assert set(references(graph["./"]["hasPart"])) == files
    for name in files:
        content = (RUN / name).read_bytes()
        assert graph[name]["sha256"] == hashlib.sha256(content).hexdigest()
        assert graph[name]["contentSize"] == str(len(content)) and graph[name]["encodingFormat"]


def test_inputs_lie_where_their_local_paths_say(root: Path, graph: dict[str, dict]) -> None:
    crate = read_crate(RUN)
    assert {"../../config/claims.yaml", "../../models/m/model.safetensors", "../../Snakefile"} <= set(crate.inputs)
    for name, checksum in crate.inputs.items():
        assert hashlib.sha256((RUN / name).read_bytes()).hexdigest() == checksum
    assert crate.models == {"m": "../../models/m"}
    assert "#models/m/model.safetensors" in references(graph["#model-m"]["hasPart"])


def test_the_run_names_workflow_configuration_seed_machine_and_packages(graph: dict[str, dict]) -> None:
    run = graph["#run"]
    snakemake = graph[run["instrument"]["@id"]]
    assert {"@id": "#Snakefile"} in run["object"]
    assert set(references(run["result"])) == set(references(graph["./"]["hasPart"]))
    assert graph["#config-seed"]["value"] == 3 and {"@id": "#config-seed"} in run["object"]
    assert graph["#config-models.m.path"]["value"] == CONFIG["models"]["m"]["path"]
    circumstances = {graph[name]["name"] for name in references(run["additionalProperty"])}
    assert {
        "machine.cores",
        "machine.processor",
        "machine.memory_mb",
        "devices",
        "python",
    } <= circumstances
    packages = {graph[name]["name"] for name in references(snakemake["softwareRequirements"])}
    assert snakemake["name"] == "Snakemake" and {"torch", "polars"} <= packages and "snakemake" not in packages


def test_costs_of_each_rule_have_units(graph: dict[str, dict]) -> None:
    rule = graph["#rule-ablate_heads"]
    assert {"@id": rule["@id"]} in graph["./"]["mentions"] and "6 jobs" in rule["description"]
    usages = {graph[name]["propertyID"]: graph[name] for name in references(rule["resourceUsage"])}
    measured = {f"selfrepair:{name}" for name in COSTS} - {"selfrepair:rule", "selfrepair:jobs"}
    assert set(usages) == measured
    assert usages["selfrepair:wall_time"]["value"] == "12.5" and usages["selfrepair:memory"]["value"] == "300.25"
    assert usages["selfrepair:memory"]["unitCode"] == "https://qudt.org/vocab/unit/MebiBYTE"


def test_the_same_run_is_described_in_the_same_way(root: Path) -> None:
    before = (RUN / METADATA).read_bytes()
    make_record()
    assert (RUN / METADATA).read_bytes() == before


def test_a_run_without_a_readable_record_is_refused_with_the_how_to_restore(made: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    shutil.copytree(made / "results", results)
    with pytest.raises(CrateError, match="other does not exist; runs with a record here: small"):
        read_crate(results / "other")
    (results / "small" / METADATA).write_text('{"@graph": [{}]}')
    with pytest.raises(CrateError, match=r"is damaged .*delete it and run Snakemake again to make it"):
        read_crate(results / "small")
    (results / "small" / METADATA).unlink()
    with pytest.raises(CrateError, match="not finished: `snakemake --cores all`"):
        read_crate(results / "small")


def test_of_a_downloaded_directory_hidden_files_are_left_out(tmp_path: Path) -> None:
    for name in ("config.json", ".snakemake_timestamp", ".cache/huggingface/config.json.metadata"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    assert files_in(tmp_path) == [tmp_path / "config.json"]
    assert files_in(tmp_path / "config.json") == [tmp_path / "config.json"]
