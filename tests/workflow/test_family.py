"""A controlled family: trained, measured, compared and kept by one command; a kept training is never made again."""

import json
from collections.abc import Callable

import polars as pl
import pytest
import yaml

from tests.workflow.conftest import Clone

ARCHITECTURE = "config/studies/architecture.yaml"
CONFIG, STUDY = "family.yaml", "results/studies/tiny"


def configured(clone: Clone, change: Callable[[dict], object] = lambda config: None) -> str:
    """Write a family that takes seconds: a base and one arm, three seeds."""
    config = yaml.safe_load((clone.root / ARCHITECTURE).read_text())
    corpus = pl.read_parquet(clone.root / config["corpus"])
    few = pl.concat(of_split.head(30) for of_split in corpus.partition_by("split"))
    few.write_parquet(clone.root / "few.parquet")
    config |= {
        "corpus": "few.parquet",
        "run": "tiny",
        "study": "tiny",
        "bootstrap_replicates": 100,
        "seeds": {"base": 3, "arms": 3},
    }
    config["training"] |= {"steps": 4, "batch_rows": 2, "warmup_steps": 1, "checkpoints": [2, 4]}
    config["measured"] |= {"rows": 6, "row_length": 16}
    config["adaptation"] = {"rows": 8, "prompts": ["ioi"], "sample": 20}
    config["base"] |= {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 48, "num_hidden_layers": 2}
    config["arms"] = {"rotary": {"rotary": True}}
    change(config)
    (clone.root / CONFIG).write_text(yaml.safe_dump(config))
    return CONFIG


def test_a_family_is_made_kept_and_not_made_again(clone: Clone) -> None:
    config = configured(clone)
    assert clone.plan(config)["train_arm"] == 6
    one = clone.run("results/tiny/arms/rotary-1/sums.parquet", config=config)
    assert one.returncode == 0, one.stdout
    assert clone.run("keep_arms", config=config).returncode == 0
    kept = clone.root / STUDY / "arms/rotary-1"
    assert json.loads((kept / "arm.json").read_text())["training"]["architecture"]["rotary"] is True
    assert clone.plan(config)["train_arm"] == 5
    done = clone.run(config=config)
    assert done.returncode == 0, done.stdout
    assert not (clone.root / "results/tiny/trained").exists(), "weights are not kept"
    found = pl.read_csv(clone.root / "results/tiny/analysis/differences.csv")
    assert found.select("arm", "matched", "n_seeds").unique().height == 2 and set(found["n_seeds"]) == {3}
    assert (clone.root / "results/tiny/figures/architecture.svg").is_file()
    assert clone.run("keep_arms", config=config).returncode == 0
    assert clone.plan(config) == {}
    page = (clone.root / STUDY / "README.md").read_text()
    assert "rotary" in page and "far_minus_near" in page
    changed = configured(clone, lambda family: family["arms"]["rotary"].update(dropout=0.1))
    assert clone.plan(changed)["train_arm"] == 3, "an arm with other settings is another"
    for change in ({"bound": 0.1}, {"bootstrap_replicates": 200}):
        plan = clone.plan(configured(clone, lambda family, change=change: family.update(change)))
        assert plan["compare_arms"] == 1 and "train_arm" not in plan, "what is kept was made with others"
    corpus = pl.read_parquet(clone.root / "few.parquet")
    config = configured(clone)
    corpus.head(50).write_parquet(clone.root / "few.parquet")
    assert clone.plan(config)["train_arm"] == 6, "other text"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda config: config["seeds"].update(arms=2), "seeds.arms: 2 is less than the minimum of 3"),
        (lambda config: config["training"].update(checkpoints=[2, 3]), "end with training.steps (4)"),
        (lambda config: config.update(corpus="nowhere.parquet"), "corpus nowhere.parquet does not exist"),
        (lambda config: config["seeds"].update(base=3, arms=4), "seeds.base"),
        (lambda config: config.update(models={}), "unknown key models"),
        (lambda config: config["arms"].update(base={"rotary": True}), "arms"),
        (lambda config: config["arms"].update({"base-wide": {"hidden_size": 64}}), "arms"),
    ],
)
def test_a_wrong_family_is_refused_with_the_fix(clone: Clone, change: Callable[[dict], object], said: str) -> None:
    done = clone.run("--dry-run", config=configured(clone, change))
    assert done.returncode == 1 and said in done.stdout, done.stdout
