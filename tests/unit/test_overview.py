"""The table of models: sizes from facts, counts from tables, losses where training is known."""

import json
import subprocess
import sys

import polars as pl
import pytest
from test_tables import statistics

from selfrepair.analysis.overview import MODELS, overview, read_models, write_models
from selfrepair.artifact.record import run_record
from selfrepair.claims import verdicts as claims
from selfrepair.models.device import job_record
from selfrepair.report import tables
from selfrepair.report.claims_table import CLAIMS
from selfrepair.report.documentation import MODEL_FACTS, RUN_RECORD, results_readme

FACT = {"name": "m", "family": "gpt2", "n_layers": 2, "n_heads": 2, "d_model": 16, "d_mlp": 64, "d_vocab": 100}
FACT |= {"parameters": 12345, "load_error": 3.14159e-7, "weights_sha256": {}, "folded_sha256": {}, "parallel": False}


def heads(model: str = "m") -> pl.DataFrame:
    """Four heads, of which one has a mean direct effect of exactly 1 logit and one of more; 100 tokens in all."""
    effects = {(0, 0): 0.2, (0, 1): 1.0, (1, 0): 1.001, (1, 1): -3.0}
    means = {head: {"direct_effect": effect} for head, effect in effects.items()}
    everything = statistics(model, means, tokens="all").with_columns(pl.lit(100).alias("n_tokens").cast(pl.Int64))
    return pl.concat([statistics(model, means), everything])


def test_heads_above_one_logit_are_counted_strictly_and_on_top_tokens() -> None:
    row = overview([FACT], {"m": heads()}, {}).row(0, named=True)
    assert row["heads_above_1"] == 1
    assert (row["tokens"], row["top_tokens"], row["documents"]) == (100, 20, 5)
    assert (row["parameters"], row["family"], row["load_error"]) == (12345, "gpt2", 3.14159e-7)


def test_documentation_has_every_key_and_column() -> None:
    assert set(MODEL_FACTS) == set(FACT)
    assert set(RUN_RECORD) == set(run_record({}, {"measure_clean.m": job_record("cpu", "float32")}, {}, "9"))
    text = results_readme()
    named = [*MODELS, *tables.LAYERS, *tables.HEADS, *CLAIMS, *claims.VERDICT, *claims.MODEL_VERDICT]
    assert all(f"| `{name}` |" in text for name in named)
    assert "`trained/<model>.state/`" in text


def test_losses_are_null_where_training_is_not_known() -> None:
    facts = [FACT, FACT | {"name": "other"}]
    training = {"m": {"held_out_loss": 3.25, "held_out_loss_bigram": 4.5}}
    table = overview(facts, {"other": heads("other"), "m": heads()}, training)
    assert table["model"].to_list() == ["m", "other"], "order of the facts"
    assert table["held_out_loss"].to_list() == [3.25, None]
    assert table["bigram_loss"].to_list() == [4.5, None]


def test_a_model_without_heads_is_named() -> None:
    with pytest.raises(ValueError, match="no table of heads for lost"):
        overview([FACT | {"name": "lost"}], {"m": heads()}, {})


def test_file_reads_back_with_its_types_though_a_column_is_empty(tmp_path) -> None:
    table = overview([FACT], {"m": heads()}, {})
    write_models(table, tmp_path / "models.csv")
    assert "3.1e-07" in (tmp_path / "models.csv").read_text()
    again = read_models(tmp_path / "models.csv")
    assert again.schema == {name: column.dtype for name, column in MODELS.items()}
    assert again.drop("load_error").equals(table.drop("load_error"))


def test_program_writes_the_table(tmp_path) -> None:
    (tmp_path / "model.json").write_text(json.dumps(FACT))
    (tmp_path / "training.json").write_text(json.dumps({"held_out_loss": 3.0, "held_out_loss_bigram": 4.0}))
    heads().write_parquet(tmp_path / "heads.parquet")
    inputs = [
        f"facts={tmp_path}/model.json",
        f"heads={tmp_path}/heads.parquet",
        f"summaries=m={tmp_path}/training.json",
    ]
    command = [sys.executable, "workflow/scripts/analyse.py", "--function", "analysis.overview:overview_of_files"]
    subprocess.run([*command, "--inputs", *inputs, "--output", tmp_path / "models.csv"], check=True)
    assert read_models(tmp_path / "models.csv")["held_out_loss"].to_list() == [3.0]
