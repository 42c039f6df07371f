"""The record of a run: a flat document whose references resolve, with every file, input, setting, package and cost."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from small_run import CONFIG, RUN, make_record, make_run

from selfrepair.cost_table import COSTS
from selfrepair.crate import METADATA, CrateError, files_in, read_crate


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
    context = {"about", "additionalProperty", "conformsTo", "contentSize", "description", "encodingFormat", "hasPart"}
    context |= {"instrument", "license", "localPath", "mentions", "name", "object", "programmingLanguage", "propertyID"}
    context |= {"result", "sha256", "softwareRequirements", "softwareVersion", "unitCode", "url", "value", "version"}
    used = {key for entity in graph.values() for key in entity} - {"@id", "@type"}
    assert used <= context | {"resourceUsage"}


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
    workflow = graph[run["instrument"]["@id"]]
    assert "ComputationalWorkflow" in workflow["@type"] and workflow["name"] == "selfrepair"
    assert set(references(run["result"])) == set(references(graph["./"]["hasPart"]))
    assert graph["#config-seed"]["value"] == "3" and {"@id": "#config-seed"} in run["object"]
    assert graph["#config-models.m.path"]["value"] == CONFIG["models"]["m"]["path"]
    circumstances = {graph[name]["name"] for name in references(run["additionalProperty"])}
    assert {"commit", "modified", "machine.cores", "machine.processor", "devices", "python"} <= circumstances
    packages = {graph[name]["name"] for name in references(workflow["softwareRequirements"])}
    assert {"torch", "polars", "snakemake"} <= packages


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


def test_a_run_without_a_readable_record_is_refused_with_the_way_out(made: Path, tmp_path: Path) -> None:
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
