"""Published per-head results: joined head by head, described by checked statistics, and what cannot be is named."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from selfrepair.claims.published import (
    COLUMNS,
    QUANTITIES,
    Comparison,
    compare,
    published_norm_share,
    published_statistics,
    read_reference,
)
from selfrepair.figures.reference_scatter import TITLES, reference_scatter
from selfrepair.report.tables import norm_share
from tests.helpers.drawings import drawn, statistics

ROOT = Path(__file__).parents[2]
CLAIMS = yaml.safe_load((ROOT / "config/claims.yaml").read_text())["claims"]
N_LAYERS, N_HEADS = 3, 2


def write_reference(path: Path, models: tuple[str, ...] = ("gpt2-small",), percentile: float = 0.02) -> pl.DataFrame:
    generator = np.random.default_rng(0)
    heads = [
        (model, percentile, layer, head) for model in models for layer in range(N_LAYERS) for head in range(N_HEADS)
    ]
    numbers = generator.normal(size=(len(heads), len(COLUMNS) - 4)).round(6)
    rows = [(*key, *row) for key, row in zip(heads, numbers.tolist(), strict=True)]
    table = pl.DataFrame(rows, schema=list(COLUMNS), orient="row")
    table.write_csv(path)
    return table


def ranks(values: np.ndarray) -> np.ndarray:
    return values.argsort().argsort()


def measured(name: str, **changes: object) -> pl.DataFrame:
    """Statistics of a small model."""
    return statistics(per_head=True, models=[name]).with_columns(**changes)


@pytest.fixture
def comparison(tmp_path) -> tuple[pl.DataFrame, pl.DataFrame, Comparison]:
    raw = write_reference(tmp_path / "reference.csv")
    own = measured("gpt2")
    heads = {"gpt2": own, "tiny": measured("tiny")}
    return raw, own, compare(heads, read_reference(tmp_path / "reference.csv", 0.02))


def test_a_file_with_a_pattern_for_a_name_is_itself(tmp_path):
    """Otherwise other published results would be compared with than those that were named."""
    write_reference(tmp_path / "r[1].csv", ("this",))
    write_reference(tmp_path / "r1.csv", ("other",))
    assert set(read_reference(tmp_path / "r[1].csv", 0.02)["model"]) == {"this"}


def test_every_head_meets_its_own_published_value(comparison):
    raw, own, found = comparison
    assert found.heads.height == N_LAYERS * N_HEADS * len(QUANTITIES)
    for row in found.heads.iter_rows(named=True):
        other = raw.row(by_predicate=(pl.col("layer") == row["layer"]) & (pl.col("head") == row["head"]), named=True)
        wanted = {
            "direct_effect": other["direct_effect"],
            "ablated_direct_effect": other["ablated_direct_effect"],
            "delta_logit": other["logit_diff"],
            "self_repair": other["logit_diff"] - other["ablated_direct_effect"] + other["direct_effect"],
            "repair_norm": other["self_repair_from_ln"],
            "repair_attention": other["self_repair_from_heads"],
            "repair_mlp": other["self_repair_from_layers"],
        }
        key = {"layer": row["layer"], "head": row["head"], "quantity": row["quantity"]}
        mean = own.filter(**key, tokens="top", statistic="mean").row(0, named=True)
        assert row["published"] == pytest.approx(wanted[row["quantity"]])
        assert [row[f"measured{end}"] for end in ("", "_low", "_high")] == [mean[n] for n in ("value", "low", "high")]


def test_agreement_is_that_of_numpy(comparison):
    _, _, found = comparison
    for row in found.agreement.iter_rows(named=True):
        here = pl.col("quantity") == row["quantity"]
        if row["layer"] is not None:
            here &= pl.col("layer") == row["layer"]
        x, y = (found.heads.filter(here)[name].to_numpy() for name in ("published", "measured"))
        assert row["n_heads"] == len(x) == (N_HEADS if row["layer"] is not None else N_HEADS * N_LAYERS)
        assert row["pearson"] == pytest.approx(np.corrcoef(x, y)[0, 1])
        assert row["spearman"] == pytest.approx(np.corrcoef(ranks(x), ranks(y))[0, 1])
        assert row["slope"] == pytest.approx(np.polyfit(x, y, 1)[0])
        assert row["rms_difference"] == pytest.approx(np.sqrt(np.mean((x - y) ** 2)))
        assert (row["measured"], row["published"]) == pytest.approx((y.mean(), x.mean()))
    assert found.agreement.filter(pl.col("layer").is_null())["quantity"].to_list() == list(QUANTITIES)


def test_models_without_a_counterpart_are_named_with_the_reason(tmp_path):
    write_reference(tmp_path / "reference.csv", ("gpt2-small", "pythia-160m"))
    deeper = measured("pythia-160m", n_layers=pl.lit(4, pl.Int16))
    heads = {"gpt2": measured("gpt2"), "tiny": measured("tiny"), "pythia-160m": deeper}
    found = compare(heads, read_reference(tmp_path / "reference.csv", 0.02))
    assert found.models.rows() == [
        ("gpt2", "gpt2-small", N_LAYERS * N_HEADS, None),
        ("tiny", None, 0, "the reference file has no tiny"),
        ("pythia-160m", None, 0, "the pythia-160m of the reference file has other layers (3) or heads"),
    ]
    assert found.heads["model"].unique().to_list() == ["gpt2"]


def test_a_model_is_compared_with_what_has_its_own_name_first(tmp_path):
    write_reference(tmp_path / "reference.csv", ("gpt2-small", "gpt2"))
    found = compare({"gpt2": measured("gpt2")}, read_reference(tmp_path / "reference.csv", 0.02))
    assert found.models["published_as"].to_list() == ["gpt2"]


def test_some_heads_of_a_model_are_compared_alone(tmp_path):
    write_reference(tmp_path / "reference.csv")
    some = measured("gpt2-small").filter(layer=1, head=0)
    found = compare({"gpt2-small": some}, read_reference(tmp_path / "reference.csv", 0.02))
    assert found.models.rows() == [("gpt2-small", "gpt2-small", 1, None)]
    assert found.agreement["pearson"].null_count() == found.agreement.height, "one head has no correlation"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.drop("self_repair_from_ln"), "lacks the columns self_repair_from_ln"),
        (lambda t: t.with_columns(percentile=1.0), "top shares of 1.0, not for `analysis.top_fraction` 0.02"),
        (lambda t: pl.concat([t, t.head(1)]), "holds a head twice"),
        (lambda t: t[1:], "all heads of a model are needed"),
        (lambda t: pl.concat([t, t.head(1).with_columns(layer=pl.lit(-1, t["layer"].dtype))]), "all heads of a model"),
        (lambda t: pl.concat([t, t.head(1).with_columns(head=pl.lit(99, t["head"].dtype))]), "with the number 99"),
    ],
)
def test_a_file_that_can_not_serve_is_refused(tmp_path, change, said):
    path = tmp_path / "reference.csv"
    change(write_reference(path)).write_csv(path)
    with pytest.raises(ValueError, match=r"reference\.csv") as caught:
        read_reference(path, 0.02)
    assert said in str(caught.value)


def test_a_column_that_is_there_twice_is_refused(tmp_path):
    path = tmp_path / "reference.csv"
    write_reference(path)
    head, *rows = path.read_text().splitlines()
    path.write_text("\n".join([f"{head},direct_effect", *(f"{row},9" for row in rows)]))
    with pytest.raises(ValueError, match="has the column direct_effect twice; remove one"):
        read_reference(path, 0.02)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("direct_effect", "nan"),
        ("direct_effect", "0"),
        ("logit_diff", "inf"),
        ("self_repair_from_ln", ""),
        ("layer", "one"),
        ("head", "1.5"),
        ("model", ""),
    ],
)
def test_a_published_value_that_is_none_is_named_by_row_and_column(tmp_path: Path, column: str, value: str) -> None:
    path = tmp_path / "reference.csv"
    write_reference(path)
    lines = path.read_text().splitlines()
    cells = lines[3].split(",")
    cells[list(COLUMNS).index(column)] = value
    path.write_text("\n".join([*lines[:3], ",".join(cells), *lines[4:]]) + "\n")
    with pytest.raises(ValueError, match=f"row 4, {column}: .*can't be used"):
        read_reference(path, 0.02)


# The published results themselves, where they are at hand.


@pytest.fixture(scope="module")
def published(shared) -> pl.DataFrame:
    return read_reference(shared("reference/published_per_head.csv"), 0.02)


# experiments.md (c) 5c, 5d, 6, 7, 8, 10; as many decimals as it gives.
SPECIFIED = {
    "pythia-160m": {
        "penultimate_norm_share": "0.166",
        "clipped_norm_share": "0.341",
        "heads_repaired": "0.52",
        "late_heads_repaired": "0.79",
        "late_self_repair_share": "0.27",
        "late_repair_of_loss": "0.29",
        "late_norm_share": "0.158",
        "late_attention_share": "-0.040",
        "late_mlp_share": "0.155",
        "last_norm_share": "0.178",
    },
    "gpt2-small": {
        "penultimate_norm_share": "0.252",
        "clipped_norm_share": "0.318",
        "heads_repaired": "0.59",
        "late_heads_repaired": "0.75",
        "late_self_repair_share": "0.39",
        "late_repair_of_loss": "0.43",
        "late_norm_share": "0.311",
        "late_attention_share": "0.168",
        "late_mlp_share": "-0.088",
    },
}


@pytest.mark.parametrize("model", SPECIFIED)
def test_statistics_of_the_published_values_are_the_specifications(published, model):
    found = dict(published_statistics(published).filter(model=model).select("statistic", "value").rows())
    for name, value in SPECIFIED[model].items():
        assert f"{found[name]:.{len(value.partition('.')[2])}f}" == value, name


def test_claims_quote_what_the_published_values_give(published):
    """Within the rounding of the quotes: 0.167 is quoted for 0.1665."""
    found = {(m, s): v for m, s, v in published_statistics(published).rows()}
    checked = 0
    for claim in CLAIMS:
        for model, quoted in claim.get("paper_values", {}).items():
            if (model, claim["statistic"]) in found:
                decimals = len(str(quoted).partition(".")[2])
                assert abs(found[model, claim["statistic"]] - quoted) < 0.6 * 10**-decimals, (claim["id"], model)
                checked += 1
    assert checked >= 12


def test_the_published_norm_share_is_a_fifth_where_the_paper_says_thirty_per_cent(published):
    table, tex = norm_share(published_norm_share(published_statistics(published), CLAIMS))
    quoted = dict(table.select("model", "quoted").rows())
    assert quoted.pop("mean") == pytest.approx(0.211, abs=6e-4)
    assert quoted == {"pythia-160m": 0.167, "gpt2-small": 0.252, "pythia-410m": 0.234, "gpt2-medium": 0.193}
    recomputed = dict(table.select("model", "recomputed").rows())
    assert recomputed["pythia-410m"] is None and recomputed["gpt2-medium"] is None, "not in the file"
    assert recomputed["mean"] == pytest.approx((recomputed["pythia-160m"] + recomputed["gpt2-small"]) / 2)
    assert recomputed["mean"] == pytest.approx(0.209, abs=5e-4)
    assert table["paper_text"].to_list() == [None] * 4 + [0.30]
    assert tex.count(r"\texttt") == 5 and "$0.30$" in tex and "$0.234$" in tex


def test_every_published_part_sums_to_self_repair(published):
    """Otherwise columns are mixed up (extraction is to six digits)."""
    parts = published["repair_norm"] + published["repair_attention"] + published["repair_mlp"]
    assert (parts - published["self_repair"]).abs().max() < 1e-5


# The figure.


def test_scatter_shows_both_values_of_every_head(comparison):
    _, _, found = comparison
    chart = reference_scatter(found.heads, found.agreement, found.models)
    for quantity, title in TITLES.items():
        rows = drawn(chart, "point", title, x="published", y="measured", color="model")
        wanted = found.heads.filter(quantity=quantity).select("layer", "head", "published", "measured").rows()
        got = [tuple(row[n] for n in ("layer", "head", "published", "measured")) for row in rows]
        for one, other in zip(sorted(got), sorted(wanted), strict=True):
            assert one == pytest.approx(other, rel=1e-5)
        assert all(row["x"] == row["y"] for row in drawn(chart, "line", title, x="x", y="y"))
    text = str(chart.to_dict())
    assert "tiny: not compared, the reference file has no tiny." in text
    assert f"r = {found.agreement['pearson'][0]:.3f}" in text


def test_scatter_without_any_counterpart_says_so(tmp_path):
    write_reference(tmp_path / "reference.csv")
    found = compare({"tiny": measured("tiny")}, read_reference(tmp_path / "reference.csv", 0.02))
    text = str(reference_scatter(found.heads, found.agreement, found.models).to_dict(validate=True))
    assert "No model of this run has published values" in text
