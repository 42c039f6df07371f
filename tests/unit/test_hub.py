"""Fetching: the first fetch fills in the lock, later ones must find the same, and messages say what to do."""

import hashlib
import json
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest
import yaml

from selfrepair.models import fetch as hub_module
from selfrepair.models.hub_lock import NOT_FETCHED, HubError, Locked, agreed_revision, read_lock, render_lock
from tests.helpers.hub_double import Hub, serving

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "workflow/resources/models/tiny-gpt2"
SMALL = {"config.json": b"{}", "vocab.txt": b"a\nb\n", "README.md": b"# a model", "pytorch_model.bin": b"pickle"}
COMMIT, OTHER = "a" * 40, "b" * 40
KEY = "models.tiny.path, set to FOLDER"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with serving(Hub()) as served:
        point(monkeypatch, served.url)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        yield served


def point(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """What HF_ENDPOINT does when huggingface_hub is imported."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}"
    )


@pytest.fixture
def lock(tmp_path) -> Path:
    path = tmp_path / "config/hub.lock.yaml"
    path.parent.mkdir()
    path.write_text(render_lock({"models": {"some/tiny": None, "some/other": None}, "datasets": {}}))
    return path


def fetch(folder: Path, lock: Path, **options: object) -> Locked:
    return hub_module.fetch("models", "some/tiny", folder, lock, KEY, ["*.json", "*.txt"], **options)


def contents(folder: Path) -> dict[str, bytes]:
    return {f.relative_to(folder).as_posix(): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def test_the_first_fetch_fills_in_the_lock(hub, lock, tmp_path):
    commit = hub.push("models/some/tiny", SMALL)
    fetch(tmp_path / "model", lock)
    wanted = {name: SMALL[name] for name in ("config.json", "vocab.txt")}
    assert contents(tmp_path / "model") == wanted, "no pickle, no leftovers of the download"
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in wanted.items()}
    assert yaml.safe_load(lock.read_text()) == {
        "models": {"some/other": {"revision": None, "files": {}}, "some/tiny": {"revision": commit, "files": sums}},
        "datasets": {},
    }
    assert lock.read_text().count(NOT_FETCHED) == 1, "what is still to be fetched says so"


def test_the_second_fetch_takes_the_locked_commit_though_the_branch_has_moved(hub, lock, tmp_path):
    commit = hub.push("models/some/tiny", SMALL)
    fetch(tmp_path / "one", lock)
    hub.push("models/some/tiny", SMALL | {"config.json": b'{"new": 1}'})
    text, asked = lock.read_text(), len(hub.asked)
    assert fetch(tmp_path / "two", lock).revision == commit
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert lock.read_text() == text
    assert not any("main" in request for request in hub.asked[asked:]), "nothing is resolved again"


def test_a_tampered_file_is_refused_by_name_and_leaves_nothing(hub, lock, tmp_path):
    commit = hub.push("models/some/tiny", SMALL)
    fetch(tmp_path / "one", lock)
    hub.commits["models/some/tiny"][commit]["vocab.txt"] = b"a\nc\n"
    with pytest.raises(HubError) as caught:
        fetch(tmp_path / "two", lock)
    bad, good = (hashlib.sha256(data).hexdigest() for data in (b"a\nc\n", b"a\nb\n"))
    for said in (f"vocab.txt has SHA-256 {bad}, not {good}", commit, str(lock), "Run again"):
        assert said in str(caught.value)
    assert "config.json has" not in str(caught.value)
    assert not list(tmp_path.glob("*two*")), "the bad files are gone, so that the next run asks anew"


@pytest.mark.parametrize("change", ["missing", "new"])
def test_another_set_of_files_is_refused(hub, lock, tmp_path, change):
    commit = hub.push("models/some/tiny", SMALL)
    fetch(tmp_path / "one", lock)
    files = hub.commits["models/some/tiny"][commit]
    files.pop("vocab.txt") if change == "missing" else files.update({"more.json": b"{}"})
    with pytest.raises(
        HubError, match="vocab.txt has SHA-256 none" if change == "missing" else r"more.json has .* any"
    ):
        fetch(tmp_path / "two", lock)


def test_a_first_fetch_adds_the_files_that_are_not_known_yet(hub, lock, tmp_path):
    """The commits of the paper's models are known, and of some a part of their files."""
    commit = hub.push("models/some/tiny", SMALL)
    sums = {name: hashlib.sha256(SMALL[name]).hexdigest() for name in ("config.json", "vocab.txt")}
    part = Locked(commit, {"vocab.txt": sums["vocab.txt"], "*": None})
    lock.write_text(render_lock({"models": {"some/tiny": part}, "datasets": {}}))
    assert NOT_FETCHED in lock.read_text() and read_lock(lock)["models"]["some/tiny"] == part
    hub.push("models/some/tiny", SMALL | {"config.json": b'{"new": 1}'})
    fetch(tmp_path / "one", lock)
    assert read_lock(lock)["models"]["some/tiny"] == Locked(commit, sums)
    assert NOT_FETCHED not in lock.read_text()

    lock.write_text(
        render_lock({"models": {"some/tiny": Locked(commit, {"vocab.txt": "0" * 64, "*": None})}, "datasets": {}})
    )
    text = lock.read_text()
    with pytest.raises(HubError, match=r"vocab\.txt has SHA-256 .*, not 0000"):
        fetch(tmp_path / "two", lock)
    assert lock.read_text() == text


def test_a_revision_of_the_configuration_is_fetched_and_does_not_touch_the_lock(hub, lock, tmp_path):
    old = hub.push("models/some/tiny", SMALL)
    hub.push("models/some/tiny", SMALL | {"config.json": b'{"new": 1}'})
    text = lock.read_text()
    assert fetch(tmp_path / "model", lock, revision=old).revision == old
    assert (tmp_path / "model/config.json").read_bytes() == b"{}"
    assert lock.read_text() == text


def test_configuration_and_lock_must_agree(tmp_path):
    known = Locked(COMMIT, {})
    path = tmp_path / "hub.lock.yaml"
    assert agreed_revision(path, "a/b", None, None) is None
    assert agreed_revision(path, "a/b", None, known) == agreed_revision(path, "a/b", COMMIT, known) == COMMIT
    assert agreed_revision(path, "a/b", OTHER, None) == OTHER
    with pytest.raises(HubError) as caught:
        agreed_revision(path, "a/b", OTHER, known)
    for said in ("a/b", OTHER, COMMIT, str(path), "remove the one from the configuration"):
        assert said in str(caught.value)


def test_another_branch_has_an_entry_of_its_own(hub, lock, tmp_path):
    main = hub.push("models/some/tiny", SMALL)
    step = hub.push("models/some/tiny", SMALL | {"config.json": b'{"step": 1}'}, branch="step1")
    fetch(tmp_path / "main", lock)
    fetch(tmp_path / "step", lock, resolve="step1")
    entries = read_lock(lock)["models"]
    assert (entries["some/tiny"].revision, entries["some/tiny@step1"].revision) == (main, step)


def test_fetches_at_the_same_time_lose_no_entry(hub, tmp_path):
    """Each reads, adds and writes; without a lock the last writer would drop what others added."""
    lock = tmp_path / "hub.lock.yaml"
    names = [f"some/tiny-{i}" for i in range(8)]
    for name in names:
        hub.push(f"models/{name}", SMALL | {"config.json": name.encode()})

    def one(name: str) -> Locked:
        return hub_module.fetch("models", name, tmp_path / name, lock, KEY, ["*.json"])

    with ThreadPoolExecutor(8) as pool:
        found = dict(zip(names, pool.map(one, names), strict=True))
    assert read_lock(lock)["models"] == found


def test_of_two_first_fetches_the_second_must_find_what_the_first_wrote(lock):
    """The branch may move between them."""
    hub_module._record(lock, "models", "some/tiny", Locked(COMMIT, {"a.json": "1" * 64}))
    hub_module._record(lock, "models", "some/tiny", Locked(COMMIT, {"a.json": "1" * 64}))
    with pytest.raises(HubError, match=f"{OTHER} is not what .* holds at {COMMIT}"):
        hub_module._record(lock, "models", "some/tiny", Locked(OTHER, {"a.json": "1" * 64}))


@pytest.mark.parametrize("locked", [False, True])
def test_an_unreachable_hub_is_said_with_what_to_do(hub, lock, tmp_path, monkeypatch, locked):
    if locked:
        hub.push("models/some/tiny", SMALL)
        fetch(tmp_path / "one", lock)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)  # between its retries
    with socket.socket() as taken:  # bound, not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        point(monkeypatch, f"http://127.0.0.1:{taken.getsockname()[1]}")
        text = lock.read_text()
        with pytest.raises(HubError) as caught:
            fetch(tmp_path / "two", lock)
    for said in ("is out of reach", "some/tiny", "hf download some/tiny --local-dir FOLDER", "models.tiny.path"):
        assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert lock.read_text() == text
    assert not (tmp_path / "two").exists()


def test_what_the_hub_does_not_have_is_not_called_unreachable(hub, lock, tmp_path):
    with pytest.raises(HubError, match=r"does not give out the model some/tiny.*check its id"):
        fetch(tmp_path / "model", lock)
    hub.push("models/some/tiny", SMALL)
    with pytest.raises(HubError, match=r"does not give out the model some/tiny|out of reach"):
        fetch(tmp_path / "model", lock, revision=OTHER)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models: [", "is no YAML"),
        ("model: {}", "models and datasets"),
        ("models: {a/b: {revision: main, files: {}}}", "a/b must have `revision`"),
        ("models: {a/b: {revision: 1234, files: {}}}", "a full commit hash in quotes"),
        (f"models: {{a/b: {{revision: {COMMIT}, files: {{x: 12}}}}}}", "the SHA-256 of each"),
        (f"models: {{a/b: {{revision: {COMMIT}, files: {{x: null}}}}}}", "the SHA-256 of each"),
        (f"models: {{a/b: {{revision: {COMMIT}}}}}", "restore it"),
    ],
)
def test_a_damaged_lock_is_refused(tmp_path, text, said):
    (tmp_path / "lock.yaml").write_text(text)
    with pytest.raises(HubError, match=r"lock\.yaml") as caught:
        read_lock(tmp_path / "lock.yaml")
    assert said in str(caught.value)


def test_a_commit_of_digits_only_survives_the_file(tmp_path):
    lock = {"models": {"a/b": Locked("1" * 40, {"c d.json": "2" * 64})}, "datasets": {"e/f": None}}
    (tmp_path / "lock.yaml").write_text(render_lock(lock))
    assert read_lock(tmp_path / "lock.yaml") == lock


def test_the_shipped_lock_lists_what_the_configurations_name():
    lock = read_lock(ROOT / "config/hub.lock.yaml")
    for name in ("paper", "paper-quick"):
        config = yaml.safe_load((ROOT / f"config/{name}.yaml").read_text())
        assert {entry["hub"] for entry in config["models"].values()} <= set(lock["models"])
        assert {entry["hub"] for entry in config["corpora"].values()} <= set(lock["datasets"])
    assert (ROOT / "config/hub.lock.yaml").read_text() == render_lock(lock)


def test_the_shipped_lock_and_the_claims_name_the_same_commits():
    """A model is recognised as the paper's by its commit."""
    lock = read_lock(ROOT / "config/hub.lock.yaml")["models"]
    papers = yaml.safe_load((ROOT / "config/claims.yaml").read_text())["paper_models"].values()
    shared = [paper for paper in papers if paper.get("hub") in lock]
    assert len(shared) >= 5
    for paper in shared:
        known = lock[paper["hub"]]
        assert known.revision == paper["revision"]
        assert known.files.get("model.safetensors") == paper.get("sha256")


def run_program(
    name: str, hub: Hub, tmp_path: Path, lock: Path, output: str, *more: str
) -> subprocess.CompletedProcess:
    offline = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    places = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "home")}
    command = [
        sys.executable,
        f"workflow/scripts/{name}.py",
        "--name",
        "tiny",
        "--hub",
        "some/tiny",
        "--lock",
        str(lock),
    ]
    record = ["--record", str(tmp_path / "record.json"), "--output", str(tmp_path / output)]
    environment = offline | places | {"PYTHONPATH": "src"}
    return subprocess.run([*command, *record, *more], cwd=ROOT, env=environment, capture_output=True, text=True)


def test_the_programs_fetch_a_model_and_a_corpus(hub, lock, tmp_path):
    """Through HF_ENDPOINT, as a mirror of the hub would be used."""
    files = {f.name: f.read_bytes() for f in MODEL.iterdir() if f.suffix in (".json", ".safetensors")}
    commit = hub.push("models/some/tiny", files)
    done = run_program("fetch_model", hub, tmp_path, lock, "model")
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "model") == files
    record = json.loads((tmp_path / "record.json").read_text())
    assert (record["hub"], record["revision"], set(record["files"])) == ("some/tiny", commit, set(files))

    pl.DataFrame({"text": ["one", "two"]}).write_parquet(tmp_path / "train.parquet")
    readme = b"---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/train-*\n---\n"
    data = {"README.md": readme, "data/train-00000-of-00001.parquet": (tmp_path / "train.parquet").read_bytes()}
    commit = hub.push("datasets/some/tiny", data)
    done = run_program("fetch_corpus", hub, tmp_path, lock, "corpus.parquet")
    assert done.returncode == 0, done.stderr
    assert pl.read_parquet(tmp_path / "corpus.parquet")["text"].to_list() == ["one", "two"]
    assert read_lock(lock)["datasets"]["some/tiny"].revision == commit
    assert not list(tmp_path.glob(".corpus*")), "what was downloaded on the way is gone"


@pytest.mark.parametrize(
    ("program", "output", "said"),
    [("fetch_model", "model", "models.tiny.path"), ("fetch_corpus", "corpus.parquet", "corpora.tiny.path")],
)
def test_the_programs_end_with_one_message_where_the_hub_is_out_of_reach(tmp_path, lock, program, output, said):
    hub = Hub()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        hub.url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        done = run_program(program, hub, tmp_path, lock, output)
    assert done.returncode != 0
    (message,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert "out of reach" in message and said in message
    assert "Traceback" not in done.stderr
