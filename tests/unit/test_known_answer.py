"""The model whose weights were set by hand: what is measured on it is what follows on paper, on every token."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import selfrepair as sr
from selfrepair.ablation.schema import EFFECTS
from selfrepair.analysis.known_answer import PENCIL, derive, pencil, pencil_tokens
from selfrepair.models.known_answer import NEURON
from selfrepair.models.known_weights import build_known_answer
from selfrepair.report.known_answer import QUANTITIES, KnownAnswerError, check_known_answer
from selfrepair.tokens.rows import sample_tokens, token_matrix
from selfrepair.tokens.tokenizer import encode

SHIPPED = Path(__file__).parents[2] / "workflow/resources/known-answer"
TOLERANCE = 1e-5  # logits, in float32


@pytest.fixture(scope="module")
def sampled() -> tuple[np.ndarray, np.ndarray]:
    """Rows of tokens, and the source of each."""
    corpus = pl.read_parquet(SHIPPED / "corpus.parquet")
    documents = corpus.select(pl.col("document").alias("name"), pl.lit("text").alias("kind"))
    drawn = sample_tokens(*encode(SHIPPED / "model", corpus["text"].to_list()), documents, 120, 16, seed=3)
    return token_matrix(drawn.tokens), drawn.rows["source"].to_numpy()


@pytest.fixture(scope="module")
def model() -> sr.FoldedModel:
    return sr.load_model(SHIPPED / "model")


def test_what_is_shipped_is_what_its_rule_writes(tmp_path: Path) -> None:
    build_known_answer(tmp_path / "model", tmp_path / "corpus.parquet")
    built, shipped = (load_file(folder / "model/model.safetensors") for folder in (tmp_path, SHIPPED))
    assert {name: tensor.tolist() for name, tensor in built.items()} == {n: t.tolist() for n, t in shipped.items()}
    assert (tmp_path / "model/tokenizer.json").read_text() == (SHIPPED / "model/tokenizer.json").read_text()
    assert_frame_equal(pl.read_parquet(tmp_path / "corpus.parquet"), pl.read_parquet(SHIPPED / "corpus.parquet"))


def test_hugging_face_gives_the_logits_that_follow_on_paper(sampled: tuple[np.ndarray, np.ndarray]) -> None:
    tokens, source = sampled
    model = AutoModelForCausalLM.from_pretrained(SHIPPED / "model")
    with torch.no_grad():
        logits = model(torch.tensor(tokens[:, :-1])).logits
    logits = (logits - logits.mean(-1, keepdim=True)).gather(-1, torch.tensor(tokens[:, 1:, None]))[..., 0]
    assert np.abs(logits.numpy() - derive(tokens, source, "zero")["logit"][0, 0]).max() < TOLERANCE


@pytest.mark.parametrize("ablation", ["resample", "zero", "mean"])
def test_every_effect_is_what_follows_on_paper(
    model: sr.FoldedModel, sampled: tuple[np.ndarray, np.ndarray], ablation: str
) -> None:
    expected = derive(*sampled, ablation)
    m = sr.measure(model, torch.tensor(sampled[0]), torch.tensor(sampled[1]), ablation)
    measured = {name: getattr(m, name).numpy() for name in QUANTITIES if hasattr(m, name)}
    measured |= {"repair_attention": m.repair_attention.sum(2).numpy(), "repair_mlp": m.repair_mlp.sum(2).numpy()}
    measured |= {"ablated_direct_effect": (m.direct_effect + m.delta_direct_effect).numpy()}
    measured |= {"ablated_logit": (m.logit + m.delta_logit).numpy()}
    assert set(measured) == set(expected) == set(QUANTITIES)
    for name, values in measured.items():
        assert np.abs(values - expected[name]).max() < TOLERANCE, name


@pytest.mark.parametrize("head", PENCIL)
def test_the_tokens_worked_by_hand(
    model: sr.FoldedModel, sampled: tuple[np.ndarray, np.ndarray], head: tuple[int, int]
) -> None:
    tokens, source = sampled
    chosen = pencil_tokens(tokens, source, head)
    assert chosen.sum() > 3
    m = sr.measure(model, torch.tensor(tokens), torch.tensor(source))
    for name, value in pencil(head).items():
        values = getattr(m, name)
        values = values.sum(2) if name in ("repair_attention", "repair_mlp") else values
        assert values[head][torch.tensor(chosen)].tolist() == pytest.approx([value] * chosen.sum(), abs=TOLERANCE), name


def tables(folder: Path, tokens: np.ndarray, source: np.ndarray) -> dict:
    """A run's tables that hold what was derived, where `check_known_answer` takes them from."""
    derived = derive(tokens, source, "resample")
    layer, head, row, pos = (axis.ravel() for axis in np.indices(derived["logit"].shape))
    values = pl.DataFrame({name: derived[name].ravel() for name in QUANTITIES})
    place = pl.DataFrame({"layer": layer, "head": head, "row": row, "pos": pos})
    top = pl.col("direct_effect").rank("ordinal", descending=True).over("layer", "head") <= 40
    kept = pl.concat([place, values], how="horizontal").with_columns(selected=top)
    means = [
        table.group_by("layer", "head").agg(pl.col(*EFFECTS).mean()).with_columns(tokens=pl.lit(name))
        for name, table in (("all", kept), ("top", kept.filter("selected")))
    ]
    heads = pl.concat(means).unpivot(index=["layer", "head", "tokens"], variable_name="quantity")
    neurons = kept.filter(layer=0, head=4).select(
        *["layer", "head", "row", "pos"],
        mlp_layer=pl.lit(1),
        neuron=pl.concat_list(pl.lit(NEURON), pl.lit(0)).list.to_array(2),
        neuron_change=pl.concat_list("repair_mlp", pl.lit(0.0)).list.to_array(2),
    )
    grid = np.indices(tokens.shape)
    (folder / "resample").mkdir(parents=True)
    page = folder / "page.md"
    page.write_text("before\n<!-- findings -->\n<!-- /findings -->\nafter\n")
    for name, table in {
        "tokens": pl.DataFrame({"row": grid[0].ravel(), "pos": grid[1].ravel(), "token": tokens.ravel()}),
        "rows": pl.DataFrame({"row": np.arange(len(source)), "source": source}),
        "resample/tokens-0": kept,
        "resample/heads": heads.with_columns(statistic=pl.lit("mean")),
        "neurons": neurons,
    }.items():
        table.write_parquet(folder / f"{name}.parquet")
    return {name: folder / f"{name}.parquet" for name in ("tokens", "rows", "neurons")} | {
        "ablated": [folder / "resample/tokens-0.parquet"],
        "heads": [folder / "resample/heads.parquet"],
        "output": folder / "known.csv",
        "page": page,
    }


def test_the_page_shows_expected_and_measured(tmp_path: Path, sampled: tuple[np.ndarray, np.ndarray]) -> None:
    check_known_answer(**tables(tmp_path, *sampled))
    page = (tmp_path / "page.md").read_text()
    assert page.startswith("before") and page.endswith("after\n")
    assert "| expected | 1.2000 | 2.4000 | 4.8000 | 4.8000 | 0.0000 | 0.0000 |" in page
    assert set(pl.read_csv(tmp_path / "known.csv")["tokens"]) == {"kept", "all", "top", "pencil", "neurons of layer 1"}


@pytest.mark.parametrize(
    ("table", "column"),
    [("resample/tokens-0", "repair_norm"), ("resample/heads", "value"), ("neurons", "neuron_change")],
)
def test_a_number_that_differs_is_refused(
    tmp_path: Path, sampled: tuple[np.ndarray, np.ndarray], table: str, column: str
) -> None:
    arguments = tables(tmp_path, *sampled)
    file = tmp_path / f"{table}.parquet"
    changed = pl.read_parquet(file)
    off = pl.when(pl.int_range(pl.len()) == 7).then(pl.col(column) + 1e-4).otherwise(pl.col(column))
    changed.with_columns(off.alias(column)).write_parquet(file)
    with pytest.raises(KnownAnswerError, match="differs"):
        check_known_answer(**arguments)
    assert not (tmp_path / "known.csv").exists()
