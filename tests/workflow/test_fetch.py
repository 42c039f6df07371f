"""A model of a hub goes through the workflow's own rule: fetched once, locked, and not fetched again."""

import json
import os
import re

from tests.helpers.hub_double import Hub, serving
from tests.workflow.conftest import Clone

MODEL, TARGET = "workflow/resources/models/tiny-gpt2", "results/hub/models/remote"


def test_a_hub_model_is_fetched_and_locked(clone: Clone, monkeypatch) -> None:
    files = {f.name: f.read_bytes() for f in (clone.root / MODEL).iterdir() if f.suffix in (".json", ".safetensors")}
    config = clone.configure("hub.yaml", lambda c: c["models"].update(remote={"hub": "some/tiny"}))
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HOME", str(clone.root / "home"))
    with serving(Hub()) as hub:
        commit = hub.push("models/some/tiny", files)
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        done = clone.run(TARGET, config=config)
    assert done.returncode == 0, done.stdout[-3000:]
    fetched = {f.name: f.read_bytes() for f in (clone.root / TARGET).iterdir()}
    assert {name: data for name, data in fetched.items() if name != ".snakemake_timestamp"} == files
    lock = (clone.root / "config/hub.lock.yaml").read_text()
    assert re.search(rf"some/tiny:\n +revision: '?{commit}'?\n +files:\n", lock)
    record = json.loads((clone.root / "results/hub/records/models/remote.json").read_text())
    assert record["revision"] == commit
    assert clone.plan(config, [TARGET]) == {}, "filling in the lock makes nothing old"
