"""The study of distributions: sums against a direct measurement, answers against Hugging Face, statistics by hand."""

import json

import numpy as np
import polars as pl
import pytest
import torch

from selfrepair.ablation.distributions import SUMMED, ablate_distribution, answer_prompts
from selfrepair.ablation.measure import measure
from selfrepair.ablation.schema import ANSWERS, DISTRIBUTION_SUMS, hand_off_elsewhere
from selfrepair.analysis.bootstrap import Draws
from selfrepair.analysis.distributions import DistributionSummary, beside, spearman, summarise
from selfrepair.analysis.schema_beyond import ACCURACY, DISTRIBUTION_HEADS, FINDINGS
from selfrepair.core.tables import Column
from selfrepair.figures.distributions import distributions
from selfrepair.tokens.rows import SampledTokens, row_table, token_table
from tests.conftest import VOCABULARY
from tests.helpers.oracle import hugging_face_oracle

ROWS, BODY, TOP = 6, 9, 0.2
SOURCE = np.array([2, 0, 4, 1, 5, 3])
EFFECTS = [name for name in SUMMED if name not in ("n", "positive", "overcorrected")]


@pytest.fixture
def sampled() -> SampledTokens:
    """Prompts of random tokens with two answers, the last of which has an alternative; two rows are of one document."""
    generator = np.random.default_rng(4)
    token = generator.integers(1, VOCABULARY, (ROWS, BODY))
    answer, alternative = np.zeros((ROWS, BODY), bool), np.full((ROWS, BODY), -1)
    answer[:, [3, -1]] = True
    alternative[:, -1] = generator.integers(1, VOCABULARY, ROWS)
    document = np.array([0, 1, 1, 2, 3, 4])[:, None].repeat(BODY, 1)
    table = token_table(0, token, document, np.arange(BODY)[None].repeat(ROWS, 0), answer, alternative)
    return SampledTokens(table, row_table(SOURCE), pl.DataFrame())


def matrix(sampled: SampledTokens, column: str) -> torch.Tensor:
    return torch.tensor(sampled.tokens[column].cast(pl.Int64).fill_null(-1).to_list()).view(ROWS, BODY + 1)


@pytest.mark.parametrize("name", ["gpt2", "neox_parallel", "llama_gqa"])
def test_sums_are_those_of_a_direct_measurement(zoo, sampled, name):
    model = zoo.folded(name)
    sums, _ = ablate_distribution(model, "ioi", sampled, model.heads, TOP)
    assert sums.schema == {name: column.dtype for name, column in DISTRIBUTION_SUMS.items()}
    assert set(sums["tokens"]) == {"top", "answers", "difference"}
    m = measure(model, matrix(sampled, "token"), torch.from_numpy(SOURCE))
    values = {name: getattr(m, name) for name in EFFECTS}
    values |= {name: values[name].sum(2) for name in ("repair_attention", "repair_mlp")}
    answer, document = matrix(sampled, "answer")[:, 1:] == 1, matrix(sampled, "document")[:, 1:]
    for layer, head in model.heads:
        effects = m.direct_effect[layer, head]
        top = effects >= effects.flatten().sort(descending=True).values[int(TOP * ROWS * BODY) - 1]
        for tokens, counted in (("top", top), ("answers", answer)):
            for of in range(5):
                (row,) = sums.filter(tokens=tokens, layer=layer, head=head, document=of).to_dicts()
                chosen = counted & (document == of)
                positive = chosen & (effects > 0)
                assert row["n"] == chosen.sum() and row["positive"] == positive.sum()
                assert row["overcorrected"] == (positive & (m.delta_logit[layer, head] > 0)).sum()
                for quantity in EFFECTS:
                    wanted = values[quantity][layer, head][chosen].sum().item()
                    assert row[quantity] == pytest.approx(wanted, rel=1e-4, abs=1e-4), (tokens, quantity)


def test_the_difference_is_that_of_two_logits_of_hugging_face(zoo, sampled):
    """Of the answer's and of the alternative's logit in the same runs; the alternative is only read off."""
    model, tokens = zoo.folded("gpt2"), matrix(sampled, "token")
    others = torch.where(matrix(sampled, "alternative") >= 0, matrix(sampled, "alternative"), tokens)
    oracle = zoo.hugging_face("gpt2", torch.float64)
    changes = [hugging_face_oracle(oracle, of, torch.from_numpy(SOURCE))[1][..., -1] for of in (tokens, others)]
    sums = ablate_distribution(model, "ioi", sampled, model.heads, TOP)[0].filter(tokens="difference")
    assert set(sums.group_by("layer", "head").agg(pl.col("n").sum())["n"]) == {ROWS}
    for layer, head, delta in sums.group_by("layer", "head").agg(pl.col("delta_logit").sum()).rows():
        wanted = (changes[0] - changes[1])[layer, head].sum().item()
        assert delta == pytest.approx(wanted, abs=2e-3)
    parts = sum(sums[name] for name in ("repair_norm", "repair_attention", "repair_mlp"))
    assert np.allclose(parts, sums["self_repair"], atol=1e-3)


def test_later_heads_are_summed_over_the_answers_by_prompt(zoo, sampled):
    model = zoo.folded("gpt2")
    _, later = ablate_distribution(model, "ioi", sampled, model.heads, TOP)
    shape = model.n_layers, model.n_heads
    assert later.schema == {name: column.dtype for name, column in hand_off_elsewhere(*shape).items()}
    assert set(later.select("distribution", "tokens").rows()) == {("ioi", "answers")}
    m = measure(model, matrix(sampled, "token"), torch.from_numpy(SOURCE), responders="heads")
    answer, document = matrix(sampled, "answer")[:, 1:] == 1, matrix(sampled, "document")[:, 1:]
    for row in later.iter_rows(named=True):
        chosen = answer & (document == row["document"])
        wanted = m.repair_heads[row["layer"], row["head"]][:, :, chosen].sum(-1).flatten()
        assert row["n"] == chosen.sum()
        assert row["change"] == pytest.approx(wanted.tolist(), rel=1e-4, abs=1e-4)
    assert later.height == len(model.heads) * 5


def test_only_named_heads_are_measured_and_alike(zoo, sampled):
    model, heads = zoo.folded("gpt2"), [(1, 2), (0, 3)]
    every, _ = ablate_distribution(model, "x", sampled, model.heads, TOP)
    some, _ = ablate_distribution(model, "x", sampled, heads, TOP)
    assert set(some.select("layer", "head").rows()) == set(heads)
    wanted = every.join(some.select("layer", "head").unique(), on=["layer", "head"], how="semi", maintain_order="left")
    for quantity in EFFECTS:
        assert np.allclose(some[quantity], wanted[quantity], atol=1e-4)


def test_text_has_top_tokens_only(zoo, sampled):
    nothing = sampled.tokens.with_columns(answer=pl.lit(False), alternative=pl.lit(None, pl.Int32))
    text = SampledTokens(nothing, sampled.rows, sampled.documents)
    sums, later = ablate_distribution(zoo.folded("gpt2"), "prose", text, [(1, 1)], TOP)
    assert set(sums["tokens"]) == set(later["tokens"]) == {"top"}
    assert later["n"].sum() == sums["n"].sum()
    assert answer_prompts(zoo.folded("gpt2"), "prose", text).is_empty()


def test_answers_are_those_of_hugging_face(zoo, sampled):
    tokens, alternative = matrix(sampled, "token"), matrix(sampled, "alternative")
    # Half of the answers are made those that the model gives, the others are not.
    with torch.no_grad():
        logits = zoo.hugging_face("gpt2")(tokens).logits
    tokens[::2, -1] = logits[::2, -2].argmax(-1)
    changed = SampledTokens(
        sampled.tokens.with_columns(token=pl.Series(tokens.flatten().tolist(), dtype=pl.Int32)),
        sampled.rows,
        sampled.documents,
    )
    found = answer_prompts(zoo.folded("gpt2"), "ioi", changed)
    assert found.schema == {name: column.dtype for name, column in ANSWERS.items()}
    at = list(zip(*(matrix(sampled, "answer") == 1).nonzero().T.tolist(), strict=True))
    assert found["pos"].to_list() == [pos - 1 for _, pos in at]
    assert found["first"].to_list() == [bool(logits[row, pos - 1].argmax() == tokens[row, pos]) for row, pos in at]
    for preferred, (row, pos) in zip(found["preferred"], at, strict=True):
        of = logits[row, pos - 1]
        assert preferred == (bool(of[tokens[row, pos]] > of[alternative[row, pos]]) if pos == BODY else None)
    assert found["first"].sum() >= 3


# Statistics.


def test_rank_correlation_is_that_of_polars_with_ties_too():
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(20, 7)), generator.integers(0, 4, (20, 7)).astype(float)
    wanted = [
        pl.select(pl.corr(pl.lit(pl.Series(a)), pl.lit(pl.Series(b)), method="spearman")).item()
        for a, b in zip(x, y, strict=True)
    ]
    assert np.allclose(spearman(x, y), wanted)
    x[3, 2] = np.nan
    y[5] = 1
    assert np.isnan(spearman(x, y)).nonzero()[0].tolist() == [3, 5]


def test_two_sets_of_documents_are_drawn_independently_and_left_out_in_turn():
    one, other = (Draws.of(pl.Series(range(n)), 50, seed) for n, seed in ((4, 1), (3, 2)))
    a, b = beside(one, other)
    assert a.weights.shape == (1 + 50 + 7, 4) and b.weights.shape == (1 + 50 + 7, 3)
    assert (a.weights[:51] == one.weights[:51]).all() and (b.weights[:51] == other.weights[:51]).all()
    assert a.weights[51:].sum(1).tolist() == [3] * 4 + [4] * 3
    assert b.weights[51:].sum(1).tolist() == [3] * 4 + [2] * 3


N_DOCUMENTS, HEADS = 40, [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (3, 0)]
SETS = [("prose", "top"), ("code", "top"), ("ioi", "top"), ("ioi", "answers"), ("ioi", "difference")]


def tables(preferred: float) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Sums of random numbers with a mean of each head; answers of which a share is preferred, and half are right.

    On prose and in prompts the first head of the last layer repairs, on code the second one.
    """
    generator = np.random.default_rng(9)
    rows = []
    for at, (distribution, tokens) in enumerate(SETS):
        for head, (layer, number) in enumerate(HEADS):
            for document in range(N_DOCUMENTS):
                n = int(generator.integers(0, 6))
                effects = (generator.normal(0.3 * (head if at != 1 else -head) + 0.1, 0.1, 6) * n).tolist()
                rows.append([distribution, tokens, 4, layer, number, document, n, *effects, n, n // 2])
    answers = [
        (distribution, document, 7, document % 2 == 0, document < preferred * N_DOCUMENTS)
        for distribution in ("ioi",)
        for document in range(N_DOCUMENTS)
    ]
    later = []
    for (distribution, tokens), strongest in zip((SETS[0], SETS[1], SETS[3]), (6, 7, 6), strict=True):
        for document in range(N_DOCUMENTS):
            for head in ((2, 0), (2, 1)):
                change = np.zeros(8)
                change[6:] = generator.normal(0.1, 0.02, 2)
                change[strongest] += 0.2
                later.append([distribution, tokens, *head, document, 1, change.tolist()])
    return typed(rows, DISTRIBUTION_SUMS), typed(answers, ANSWERS), typed(later, hand_off_elsewhere(4, 2))


def typed(rows: list, schema: dict[str, Column]) -> pl.DataFrame:
    return pl.DataFrame(rows, {name: column.dtype for name, column in schema.items()}, orient="row")


def summary(preferred: float = 0.9) -> DistributionSummary:
    return summarise("m", *tables(preferred), replicates=100, seed=3)


def late_means(sums: pl.DataFrame, distribution: str, tokens: str) -> list[float]:
    of = sums.filter((pl.col("layer") >= 2) & (pl.col("distribution") == distribution) & (pl.col("tokens") == tokens))
    means = of.group_by("layer", "head").agg(pl.col("self_repair").sum() / pl.col("n").sum()).sort("layer", "head")
    return means["self_repair"].to_list()


def test_findings_are_worked_out_from_the_sums():
    sums, *_ = tables(0.9)
    found = summary().findings
    assert found.schema == {name: column.dtype for name, column in FINDINGS.items()}
    assert set(found["study"]) == {"distributions"} and set(found["model"]) == {"m"}
    labels = ["code", "ioi (top)", "ioi (answers)", "ioi (answers, difference)"]
    for statistic, others in (
        ("share", ["prose"]),
        ("rank_correlation", ["prose (halves)"]),
        ("sign_changes", ["prose (halves)"]),
    ):
        assert found.filter(statistic=statistic)["tokens"].to_list() == others + labels
    for label, (distribution, tokens) in zip(["prose", *labels], SETS, strict=True):
        late = sums.filter(
            (pl.col("layer") >= 2) & (pl.col("distribution") == distribution) & (pl.col("tokens") == tokens)
        )
        share = late["self_repair"].sum() / late["direct_effect"].sum()
        assert value(found, "share", label) == pytest.approx(share)
        if label != "prose":
            base, other = late_means(sums, "prose", "top"), late_means(sums, distribution, tokens)
            ranked = pl.select(pl.corr(pl.lit(pl.Series(base)), pl.lit(pl.Series(other)), method="spearman")).item()
            assert value(found, "rank_correlation", label) == pytest.approx(ranked)
            changed = np.mean([(a > 0) != (b > 0) for a, b in zip(base, other, strict=True)])
            assert value(found, "sign_changes", label) == pytest.approx(changed)
    assert value(found, "rank_correlation", "code") == -1 and value(found, "rank_correlation", "ioi (top)") == 1
    assert value(found, "sign_changes", "code") == 1 and value(found, "sign_changes", "prose (halves)") == 0
    assert (found["low"] <= found["value"]).all() and (found["value"] <= found["high"]).all()
    assert set(found.filter(statistic="share")["n_documents"]) == {N_DOCUMENTS}
    assert set(found.filter(tokens="code")["n_documents"]) == {N_DOCUMENTS, 2 * N_DOCUMENTS}


def test_repairers_of_prose_are_looked_for_elsewhere():
    """They make what the strongest make only where they are the same."""
    (*_, later), found = tables(0.9), summary().findings
    assert set(found.filter(statistic="strongest_own")["tokens"]) == {"prose", "code", "ioi (answers)"}
    assert set(found.filter(statistic="strongest_on_first")["tokens"]) == {"code", "ioi (answers)"}
    for label, distribution, strongest in (("code", "code", 7), ("ioi (answers)", "ioi", 6)):
        changes = np.array(later.filter(distribution=distribution)["change"].to_list()).sum(0)
        shares = changes / changes.sum()
        assert value(found, "strongest_on_first", label) == pytest.approx(shares[6], rel=1e-4)
        assert value(found, "strongest_own", label) == pytest.approx(shares[strongest], rel=1e-4)
    low, high = found.filter(statistic="strongest_on_first", tokens="code").select("low", "high").row(0)
    assert 0.2 < low < high < 0.3


def test_a_share_that_may_be_anything_is_not_reported():
    sums, answers, later = tables(0.9)
    generator = np.random.default_rng(1)
    noise = [generator.normal(size=8).tolist() for _ in range(later.height)]
    nothing = pl.when(distribution="code").then(pl.Series(noise, dtype=later.schema["change"])).otherwise("change")
    found = summarise("m", sums, answers, later.with_columns(change=nothing), 100, 3).findings
    assert found.filter(pl.col("statistic").str.starts_with("strongest"), tokens="code")["value"].is_null().all()
    assert value(found, "strongest_own", "prose") > 0.7


def value(found: pl.DataFrame, statistic: str, label: str) -> float:
    return found.filter(statistic=statistic, tokens=label)["value"].item()


def test_heads_and_their_half_are_described():
    sums, *_ = tables(0.9)
    heads = summary().heads
    assert heads.schema == {name: column.dtype for name, column in DISTRIBUTION_HEADS.items()}
    of = sums.filter(distribution="ioi", tokens="answers", layer=2, head=1)
    rows = heads.filter(distribution="ioi", tokens="answers", layer=2, head=1)
    for quantity in EFFECTS:
        mean = rows.filter(quantity=quantity, statistic="mean")
        assert mean["value"].item() == pytest.approx(of[quantity].sum() / of["n"].sum())
        assert (
            mean["n_tokens"].item() == of["n"].sum() and mean["low"].item() < mean["value"].item() < mean["high"].item()
        )
    rate = rows.filter(statistic="rate")["value"].item()
    assert rate == pytest.approx(of["overcorrected"].sum() / of["positive"].sum())
    late = sums.filter((pl.col("layer") >= 2) & (pl.col("distribution") == "code"))
    half = heads.filter(distribution="code", heads="later half", quantity="repair_mlp", statistic="share")
    assert half["value"].item() == pytest.approx(late["repair_mlp"].sum() / late["direct_effect"].sum())


@pytest.mark.parametrize("preferred", [0.75, 0.8])
def test_findings_are_withheld_from_models_that_prefer_too_few_right_answers(preferred):
    made = summary(preferred)
    assert made.accuracy.schema == {name: column.dtype for name, column in ACCURACY.items()}
    shares = dict(made.accuracy.select("statistic", "value").rows())
    assert shares == {"preferred": pytest.approx(preferred), "first": 0.5}
    assert set(made.accuracy["reported"]) == {preferred >= 0.8}
    of_prompts = made.findings.filter(pl.col("tokens").str.starts_with("ioi"))
    assert of_prompts["value"].is_null().all() == of_prompts["low"].is_null().all() == (preferred < 0.8)
    assert made.findings.filter(~pl.col("tokens").str.starts_with("ioi"))["value"].is_not_null().all()


def test_a_model_of_which_only_early_heads_are_measured_has_no_findings():
    sums, *others = tables(0.9)
    made = summarise("m", sums.filter(pl.col("layer") < 2), *others, 100, 3)
    assert made.findings.is_empty() and made.findings.columns == list(FINDINGS) and not made.heads.is_empty()


# The figure.


def drawn(preferred: float = 0.9) -> tuple[dict, DistributionSummary]:
    made = summary(preferred)
    return distributions(made.heads, made.accuracy, made.findings).to_dict(validate=True), made


def test_the_figure_shows_later_heads_and_their_correlation():
    spec, made = drawn()
    (row,) = spec["vconcat"]
    assert [panel["title"]["text"] for panel in row["hconcat"]] == ["code", "ioi"]
    for panel, (distribution, tokens), label in zip(
        row["hconcat"], [SETS[1], SETS[3]], ["code", "ioi (answers)"], strict=True
    ):
        (dots,) = [layer for layer in panel["layer"] if layer["mark"]["type"] == "circle"]
        rows = spec["datasets"][dots["data"]["name"]]
        assert [(r["layer"], r["head"]) for r in rows] == [(2, 0), (2, 1), (3, 0)]
        key = {"quantity": "self_repair", "statistic": "mean", "heads": "one"}
        for end, of in (("", ("prose", "top")), ("_up", (distribution, tokens))):
            wanted = made.heads.filter(pl.col("layer") >= 2, distribution=of[0], tokens=of[1], **key)
            for name in ("value", "low", "high"):
                assert [r[name + end] for r in rows] == pytest.approx(wanted[name].to_list(), rel=1e-5)
        correlation = made.findings.filter(statistic="rank_correlation", tokens=label)["value"].item()
        assert f"= {correlation:.2f}".replace("-", "\u2212") in panel["title"]["subtitle"][0]
    assert row["hconcat"][1]["title"]["subtitle"][1] == "right one preferred: 90 %"


def test_the_figure_says_why_a_distribution_is_not_shown():
    spec, _ = drawn(0.5)
    (row,) = spec["vconcat"]
    assert row["hconcat"][1]["title"]["subtitle"][0] == "right one preferred: 50 %"
    assert "not shown" in json.dumps(row["hconcat"][1])


def test_a_single_distribution_gives_a_figure_that_says_so():
    made = summary()
    spec = distributions(made.heads.filter(distribution="prose"), made.accuracy.clear(), made.findings).to_dict()
    assert "no distribution but prose" in json.dumps(spec)


def test_the_figure_leaves_out_an_interval_that_is_not_known():
    made = summary()
    null = made.findings.with_columns(low=pl.lit(None, pl.Float64), high=pl.lit(None, pl.Float64))
    (row,) = distributions(made.heads, made.accuracy, null).to_dict()["vconcat"]
    value = made.findings.filter(statistic="rank_correlation", tokens="code")["value"].item()
    assert row["hconcat"][0]["title"]["subtitle"][0] == f"\u03c1 = {value:.2f}".replace("-", "\u2212")
