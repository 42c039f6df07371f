"""Checks of a finished run, or of an unpacked archive of one, against its record.

`check_files`: every file of the record is there with its SHA-256, and no result lies beside them that the record does
not know. `check_rows`: a random sample of kept token rows is computed anew from the weights (`recompute`, which says
what is independent of what) and compared with what is stored.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor

from selfrepair.crate import FORMATS, METADATA, Crate
from selfrepair.inputs import Inputs, read_inputs
from selfrepair.provenance import sha256
from selfrepair.recompute import Recomputation
from selfrepair.replacements import ABLATIONS

# Largest deviation, by precision of the run: of the row's largest clean logit, or of a scale itself. In float32 what
# the measurement allows itself; in the others several times the largest error that docs/benchmark.md reports.
TOLERANCES = {"float64": 1e-4, "float32": 1e-4, "tf32": 2e-2, "bfloat16": 2e-1}
MEAN_TOKENS = 200_000  # above that, mean activations are taken from the run: a pass of its own would take hours
UNRECORDED = ("logs", "benchmarks", "trained")  # folders of a run in which files may lie that no record names
RATIOS = ("scale", "ablated_scale", "own_scale")


@dataclass(frozen=True)
class Check:
    """What was looked at, and what is wrong with it; None if nothing is."""

    what: str
    problem: str | None = None


def check_files(crate: Crate) -> Iterator[Check]:
    """Compare the files of a run and its inputs with the record: a check for each that differs, then one per folder."""
    for kind, listed in (("result", crate.files), ("input", crate.inputs)):
        good: Counter[str] = Counter()
        for name, expected in sorted(listed.items()):
            path = crate.root / name
            folder = name.split("/")[0] if kind == "result" else "inputs"
            if not path.is_file():
                yield Check(name, f"this {kind} is missing")
            elif sha256(path) != expected:
                yield Check(name, f"this {kind} is not what was recorded: SHA-256 is {sha256(path)}, not {expected}")
            else:
                good[folder] += 1
        for folder, count in sorted(good.items()):
            yield Check(f"{folder}: {count} files are as recorded")
    unknown = sorted(name for name in _results(crate.root) if name not in crate.files)
    for name in unknown:
        yield Check(name, "the record does not know this file; delete it, or run Snakemake to make the record anew")
    if not unknown:
        yield Check("no other results lie in the run's folder")


def _results(root: Path) -> Iterator[str]:
    """Paths of everything in a run's folder that is of a kind of results."""
    for path in root.rglob("*"):
        name = path.relative_to(root)
        if path.suffix in FORMATS and name.parts[0] not in UNRECORDED and str(name) != METADATA:
            yield name.as_posix()


def check_rows(crate: Crate, count: int, seed: int) -> Iterator[Check]:
    """Recompute `count` kept token rows of each model and kind of ablation, drawn at random, and compare them."""
    config = crate.run_record["config"]
    tolerance = TOLERANCES[config.get("precision", "float32")]
    for index, (name, folder) in enumerate(sorted(crate.models.items())):
        as_published = name not in config["models"]
        model = Recomputation(crate.root / folder, as_published)
        sampled = crate.root / "tokens" / name
        inputs = read_inputs(*(pl.read_parquet(sampled / f"{table}.parquet") for table in ("tokens", "rows")))
        for kind in ABLATIONS:
            shards = _shards(crate, name, kind)
            if shards:
                kept = draw(shards, count, np.random.default_rng([seed, index, ABLATIONS.index(kind)]))
                means, whence = _means(model, inputs, crate.root / "ablation" / name) if kind == "mean" else (None, "")
                yield _compare(f"{name}, {kind}{whence}", model, inputs, kept, kind, means, tolerance)


def _shards(crate: Crate, model: str, kind: str) -> list[Path]:
    pattern = re.compile(rf"ablation/{re.escape(model)}/{kind}/tokens-\d+\.parquet")
    return [crate.root / name for name in sorted(crate.files) if pattern.fullmatch(name)]


def draw(shards: list[Path], count: int, generator: np.random.Generator) -> pl.DataFrame:
    """Draw rows of some Parquet files uniformly without replacement; all, if there are fewer."""
    rows = pl.scan_parquet(shards)
    total = rows.select(pl.len()).collect().item()
    chosen = np.sort(generator.permutation(total)[:count])
    return rows.with_row_index("index").filter(pl.col("index").is_in(chosen.tolist())).drop("index").collect()


def _means(model: Recomputation, inputs: Inputs, folder: Path) -> tuple[Float[Tensor, "layer head d_head"], str]:
    """Mean outputs of all heads, and whether they are the run's own."""
    if inputs.tokens.numel() <= MEAN_TOKENS:
        return model.mean_z(inputs.tokens), ""
    return model.value_bias + load_file(folder / "clean/means.safetensors")["z"], " (means of the run)"


def _compare(
    what: str,
    model: Recomputation,
    inputs: Inputs,
    kept: pl.DataFrame,
    kind: str,
    means: Float[Tensor, "layer head d_head"] | None,
    tolerance: float,
) -> Check:
    """Recompute rows of `schemas.ablated_tokens`; the check names the row and the column that deviate most."""
    largest, worst = 0.0, ""
    for row in kept.to_dicts():
        tokens, source = inputs.tokens[row["row"]], inputs.tokens[inputs.source[row["row"]]]
        effects = model.effects(tokens, source, row["layer"], row["head"], kind, means)
        by = effects["logit"].abs().max()
        for name, values in effects.items():
            stored, found = torch.tensor(row[name], dtype=torch.float64), values[row["pos"]]
            error = ((stored - found).abs() / (found if name in RATIOS else by)).max().item()
            if largest == largest and not error <= largest:  # nothing is worse than NaN
                place = f"L{row['layer']}H{row['head']}, row {row['row']}, pos {row['pos']}: {name}"
                largest, worst = error, f"{place} is {_text(stored)}, recomputed {_text(found)}"
    heads, rows = (kept.select(columns).n_unique() for columns in (["layer", "head"], ["row"]))
    checked = f"{what}: {kept.height} token rows of {heads} heads in {rows} rows recomputed"
    if largest <= tolerance:
        return Check(f"{checked}; largest deviation {largest:.0e} (allowed: {tolerance:.0e})")
    return Check(checked, f"{worst}; deviation {largest:.1e} (allowed: {tolerance:.0e})")


def _text(value: Float[Tensor, "*layer"]) -> str:
    return ", ".join(f"{number:.6g}" for number in value.flatten().tolist())
