"""Do the tables of a finished run agree with each other? What can be said of all kept rows without a model.

`check_tables`: each head's kept rows are those that the clean pass ranked and the control sample, no more and no less,
with the documents of the sampled tokens; on each row changes are the sums of their parts; sums are over the tokens that
they should be over; means of heads are those of rows and sums.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from selfrepair.ablation.effects import TOLERANCE
from selfrepair.ablation.measured import measured_tokens
from selfrepair.ablation.reselection import top_count
from selfrepair.ablation.schema import EFFECTS, HEAD
from selfrepair.ablation.shard import shard_rows
from selfrepair.artifact.crate import Crate
from selfrepair.artifact.verify import Check, expected, place, shards
from selfrepair.models.directory import authors_units_measurements, parse_head
from selfrepair.tokens.schema import PLACE

HEAD_KEY, PLACE_KEY = list(HEAD), list(PLACE)
KEPT = [*HEAD_KEY, *PLACE_KEY, "document", "selected", "control", "rank"]
CLOSE = 1e-9  # relative, of means in float64; they differ by the order of summation only


def check_tables(crate: Crate) -> Iterator[Check]:
    """Check the tables of each model and kind of ablation that the configuration asks for: a check for each."""
    config = crate.run_record["config"]
    for model, kind in expected(config):
        rows, sums = (shards(crate, model, kind, table) for table in ("tokens", "sums"))
        heads = f"analysis/{model}/{kind}/heads.parquet"
        if not rows or len(rows) != len(sums) or heads not in crate.files:
            yield Check(f"{model}, {kind}", "token rows, sums or heads.parquet are not in the record")
            continue
        try:
            tables = _read(crate, config, model)
            count = _check_rows(tables, top_count(tables.documents.height, config["analysis"]["top_fraction"]), rows)
            _check_parts(tables, rows)
            _check_sums(tables, measured_tokens(config["ablation"]["measure"], kind) == "selected", sums)
            _check_means(crate.path(heads), rows, sums)
        except _Difference as difference:
            yield Check(f"{model}, {kind}", str(difference))
        except (OSError, TypeError, pl.exceptions.PolarsError) as error:
            said = str(error).splitlines()[:1]
            yield Check(f"{model}, {kind}", f"a table is not what a run writes: {type(error).__name__}: {said}")
        else:
            yield Check(f"{model}, {kind}: {count:,} kept rows are those to be kept; sums and means of heads agree")


class _Difference(ValueError):
    """Two tables do not agree; the message says which and where."""


@dataclass(frozen=True)
class _Tables:
    """What a model's kept rows must agree with.

    Attributes:
        documents: of the correct next token, by row and pos, of every scored token.
        control: row and pos of the control sample.
        logits: largest clean logit of each row.
        candidates: `SELECTED`, of all tokens that some bootstrap replicate selects.
        selected: `SELECTED`, of the top tokens.
        heads: layer and head of each head that is measured.
    """

    documents: pl.DataFrame
    control: pl.DataFrame
    logits: pl.DataFrame
    candidates: pl.DataFrame
    selected: pl.DataFrame
    heads: pl.DataFrame


def _read(crate: Crate, config: dict[str, Any], model: str) -> _Tables:
    folder = crate.path(f"ablation/{model}/clean")
    clean = pl.read_parquet(folder / "tokens.parquet")
    tokens = pl.read_parquet(crate.path(f"tokens/{model}/tokens.parquet")).filter(pl.col("pos") > 0)
    candidates, selected = (pl.read_parquet(folder / f"{name}.parquet") for name in ("candidates", "selected"))
    heads = config["models"][authors_units_measurements(config["models"]).get(model, model)].get("heads")
    pairs = [parse_head(name) for name in heads or []]
    named = pl.DataFrame(pairs, schema={name: column.dtype for name, column in HEAD.items()}, orient="row")
    return _Tables(
        documents=tokens.select("row", (pl.col("pos") - 1).cast(pl.Int16), "document"),
        control=clean.filter("control").select(PLACE_KEY),
        logits=clean.group_by("row").agg(largest=pl.col("logit").abs().max()),
        candidates=candidates,
        selected=selected,
        heads=named if heads else selected.select(HEAD_KEY).unique(),
    )


def _check_rows(tables: _Tables, count: int, rows: list[Path]) -> int:
    """Compare the kept rows with those that the clean pass chose, `count` of each head; return how many there are."""
    per_head = tables.heads.join(tables.selected.group_by(HEAD_KEY).len(), on=HEAD_KEY, how="left")
    if per_head.is_empty() or not (per_head["len"] == count).fill_null(False).all():
        raise _Difference(f"clean/selected.parquet does not have {count} top tokens of each head")
    if not tables.selected.equals(tables.candidates.filter(pl.col("rank") < count)):
        raise _Difference(f"clean/selected.parquet does not hold the first {count} tokens of clean/candidates.parquet")
    if tables.control.is_empty():
        raise _Difference("clean/tokens.parquet has no control sample")
    kept, n_rows = 0, tables.documents["row"].max() + 1
    for shard, path in enumerate(rows):
        here = pl.col("row").is_in(shard_rows(n_rows, shard, len(rows)).tolist())
        control = tables.heads.join(tables.control.filter(here), how="cross").with_columns(control=pl.lit(True))
        ranked = tables.candidates.filter(here).join(tables.heads, on=HEAD_KEY, how="semi").drop("direct_effect")
        wanted = (
            control.join(ranked, on=[*HEAD_KEY, *PLACE_KEY], how="full", coalesce=True)
            .with_columns(selected=pl.col("rank") < count)
            .with_columns(pl.col("selected", "control").fill_null(False))
            .join(tables.documents, on=PLACE_KEY)
            .select(KEPT)
            .sort(KEPT)
        )
        read_back = pl.read_parquet(path, columns=KEPT).select(KEPT).sort(KEPT)
        if not read_back.equals(wanted):
            raise _Difference(f"{path.name} {_first_difference(read_back, wanted)}")
        kept += read_back.height
    return kept


def _first_difference(read_back: pl.DataFrame, wanted: pl.DataFrame) -> str:
    for what, here, there in (("lacks", wanted, read_back), ("should not have", read_back, wanted)):
        odd = here.join(there, on=KEPT, how="anti", nulls_equal=True).sort(KEPT)
        if odd.height:
            row = odd.row(0, named=True)
            marks = ", ".join(f"{name} {row[name]}".lower() for name in ("document", "selected", "control"))
            return f"{what} {odd.height} rows, the first of {place(row)}, {marks}"
    return "has rows twice"


def _check_parts(tables: _Tables, rows: list[Path]) -> None:
    """Check on every row what the measurement makes sure of: changes of logits are those of their parts, added up."""
    equal = {
        "delta_logit is not ablated_logit - logit": pl.col("delta_logit") - pl.col("ablated_logit") + pl.col("logit"),
        "self_repair is not delta_logit - (ablated_direct_effect - direct_effect)": pl.col("self_repair")
        - pl.col("delta_logit")
        + pl.col("ablated_direct_effect")
        - pl.col("direct_effect"),
        "self_repair is not repair_norm + repair_attention + repair_mlp": pl.col("self_repair")
        - pl.sum_horizontal("repair_norm", "repair_attention", "repair_mlp"),
        **{
            f"{part} is not the sum of {part}_by_layer": pl.col(part) - pl.col(f"{part}_by_layer").arr.sum()
            for part in ("repair_attention", "repair_mlp")
        },
    }
    for path in rows:
        table = pl.read_parquet(path).join(tables.logits, on="row")
        for said, difference in equal.items():
            odd = table.filter(~(difference.abs() <= TOLERANCE * pl.col("largest")).fill_null(False))
            if odd.height:
                first = place(odd.row(0, named=True))
                raise _Difference(f"{path.name}: {said} in {odd.height} rows, the first of {first}")


def _check_sums(tables: _Tables, of_control: bool, sums: list[Path]) -> None:
    """Compare how many tokens of each document were summed, of every head, with how many should have been."""
    summed = tables.documents.join(tables.control, on=PLACE_KEY, how="semi") if of_control else tables.documents
    wanted = tables.heads.join(summed.group_by("document").agg(n=pl.len().cast(pl.Int64)), how="cross")
    read = pl.concat(pl.read_parquet(path, columns=[*HEAD_KEY, "document", "n"]) for path in sums)
    read_back = read.filter(pl.col("n") != 0).group_by(*HEAD_KEY, "document").agg(pl.col("n").sum())
    order = [*HEAD_KEY, "document", "n"]
    if not read_back.select(order).sort(order).equals(wanted.select(order).sort(order)):
        raise _Difference("sums-*.parquet are not over the tokens of every head and document that are to be summed")


def _check_means(path: Path, rows: list[Path], sums: list[Path]) -> None:
    """Compare means in heads.parquet with those of the top tokens' rows and of the sums."""
    effects = list(EFFECTS)
    top = pl.scan_parquet(rows).filter("selected").group_by(HEAD_KEY).agg(pl.col(effects).cast(pl.Float64).mean())
    total = pl.scan_parquet(sums).group_by(HEAD_KEY).agg(pl.col(*effects, "n").sum())
    every = total.select(*HEAD_KEY, *(pl.col(name) / pl.col("n") for name in effects))
    stored = pl.read_parquet(path).filter(statistic="mean")
    for tokens, means in (("top", top.collect()), ("all", every.collect())):
        long = means.unpivot(index=HEAD_KEY, variable_name="quantity", value_name="mean")
        both = stored.filter(tokens=tokens).join(long, on=[*HEAD_KEY, "quantity"], how="full", coalesce=True)
        value, mean = (both[name].fill_null(float("nan")).to_numpy() for name in ("value", "mean"))
        size = np.abs(mean).max(initial=0.0)
        odd = ~(np.abs(value - mean) <= CLOSE * np.maximum(np.abs(mean), size))
        if odd.any() or not both.height:
            row = both.row(int(odd.argmax()), named=True) if both.height else {}
            what = f"L{row.get('layer')}H{row.get('head')}, {tokens} tokens, {row.get('quantity')}"
            raise _Difference(f"{path.name}: mean of {what} is {row.get('value')}, of the rows {row.get('mean')}")
