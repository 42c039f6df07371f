"""A random sample of a finished run's token rows and sums, computed anew from the weights and compared.

`recompute` says what is independent of what, `verify_sample` how far apart stored and recomputed values may be.
"""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool, Float
from safetensors.torch import load_file
from torch import Tensor

from selfrepair.ablation.inputs import Inputs, read_inputs
from selfrepair.ablation.measured import measured_tokens
from selfrepair.ablation.replacements import ABLATIONS, Ablation
from selfrepair.ablation.shard import shard_rows
from selfrepair.artifact.crate import Crate
from selfrepair.artifact.reference_model import Recomputation
from selfrepair.artifact.verify import Check, expected, shards
from selfrepair.artifact.verify_sample import SAMPLED_EFFECTS, TOLERANCES, Sample, largest, text
from selfrepair.core.progress import Progress
from selfrepair.models.directory import authors_units_measurements, twins
from selfrepair.models.shuffle import shuffle_model

MEAN_TOKENS = 200_000  # above that, mean activations are taken from the run: a pass of its own would take hours
SUM_ROWS = 8  # in how many rows of a shard a document may lie whose sum is computed anew


def check_rows(crate: Crate, count: int, seed: int) -> Iterator[Check]:
    """Recompute token rows and a sum of each model and kind of ablation that the run's configuration asks for.

    Weights of a null twin are shuffled anew with the run's seed.

    Args:
        count: token rows, drawn at random of each; all, if there are fewer.

    Yields:
        two checks for each model and kind: of the rows, and of the sums by document.
    """
    config = crate.run_record["config"]
    tolerance = TOLERANCES[config.get("precision", "float32")]
    asked = expected(config)
    kinds = {model: [kind for name, kind in asked if name == model] for model, _ in asked}
    nulls = twins(config["models"]) if config.get("null_twins", {}).get("rows") else {}
    of_nulls: dict[str, list[Ablation]] = {
        twin: ["resample"] for twin, of in nulls.items() if "resample" in kinds.get(of, [])
    }
    progress = Progress("recomputing token rows", (len(asked) + len(of_nulls)) * count, "rows")
    for index, (name, asked_kinds) in enumerate([*sorted(kinds.items()), *of_nulls.items()]):
        if (of := nulls.get(name, name)) not in crate.models:
            yield Check(name, "the record does not say where this model's weights are, so no row was recomputed")
            continue
        with TemporaryDirectory() as folder:
            path = crate.path(crate.models[of])
            source = shuffle_model(path, config["seed"], Path(folder) / name) if name in nulls else path
            model = Recomputation(source, name in authors_units_measurements(config["models"]))
        sampled = crate.path(f"tokens/{name}")
        inputs = read_inputs(*(pl.read_parquet(sampled / f"{table}.parquet") for table in ("tokens", "rows")))
        for kind in asked_kinds:
            generator = np.random.default_rng([seed, index, ABLATIONS.index(kind)])
            means, whence = _means(model, inputs, crate.path(f"ablation/{name}")) if kind == "mean" else (None, "")
            sample = Sample(model, inputs, kind, means, tolerance)
            kept = draw(shards(crate, name, kind, "tokens"), count, generator)
            yield sample.check(f"{name}, {kind}{whence}", kept, progress)
            yield _check_sums(
                f"{name}, {kind}",
                sample,
                _counted(crate, name, kind, inputs),
                shards(crate, name, kind, "sums"),
                generator,
            )


def draw(paths: list[Path], count: int, generator: np.random.Generator) -> pl.DataFrame:
    """Draw rows of some Parquet files uniformly without replacement; all, if there are fewer."""
    if not paths:
        return pl.DataFrame()
    rows = pl.scan_parquet(paths)
    total = rows.select(pl.len()).collect().item()
    chosen = np.sort(generator.permutation(total)[:count])
    return rows.with_row_index("index").filter(pl.col("index").is_in(chosen.tolist())).drop("index").collect()


def _means(model: Recomputation, inputs: Inputs, folder: Path) -> tuple[Float[Tensor, "layer head d_head"], str]:
    """Mean outputs of all heads, and whether they are the run's own."""
    if inputs.tokens.numel() <= MEAN_TOKENS:
        return model.mean_z(inputs.tokens), ""
    return model.value_bias + load_file(folder / "clean/means.safetensors")["z"], " (means of the run)"


def _counted(crate: Crate, name: str, kind: Ablation, inputs: Inputs) -> Bool[Tensor, "row pos"]:
    """Which tokens the sums are over."""
    if measured_tokens(crate.run_record["config"]["ablation"]["measure"], kind) == "all":
        return torch.ones_like(inputs.documents, dtype=torch.bool)
    clean = pl.read_parquet(crate.path(f"ablation/{name}/clean/tokens.parquet")).sort("row", "pos")
    return clean["control"].to_torch().view(inputs.documents.shape)


def _check_sums(
    what: str, sample: Sample, counted: Bool[Tensor, "row pos"], paths: list[Path], generator: np.random.Generator
) -> Check:
    """Recompute the sums of a head over a document's tokens in a shard (`document_sums`), drawn at random."""
    what = f"{what}, sums"
    if not paths:
        return Check(what, "there are none, so none was recomputed")
    shard = int(generator.integers(len(paths)))
    sums, documents = pl.read_parquet(paths[shard]), sample.inputs.documents
    places: dict[int, list[int]] = {}  # of each document, the rows of the shard that it lies in
    for row in shard_rows(len(documents), shard, len(paths)).tolist():
        for document in documents[row][counted[row]].unique().tolist():
            places.setdefault(document, []).append(row)
    short = [document for document, rows in places.items() if len(rows) <= SUM_ROWS] or list(places)
    if not short or sums.is_empty():
        return Check(what, f"{paths[shard].name} holds none, so none was recomputed")
    document = short[int(generator.integers(len(short)))]
    layer, head = sums.row(int(generator.integers(sums.height)))[:2]
    place = f"L{layer}H{head}, document {document} in shard {shard}"
    tokens = [(row, (documents[row] == document) & counted[row]) for row in places[document]]
    parts = [(sample.effects(layer, head, row), at) for row, at in tokens]
    anew = {n: torch.cat([e[n][at].reshape(int(at.sum()), -1) for e, at in parts]).numpy() for n in SAMPLED_EFFECTS}
    stored = sums.filter(layer=layer, head=head, document=document)
    count = len(anew["self_repair"])
    if stored.height != 1 or stored["n"][0] != count:
        return Check(what, f"{place}: not a sum over {count} tokens")
    allowed = np.maximum(sample.tolerance.typical, sample.tolerance.share * largest(anew)).sum()
    values = {name: np.atleast_1d(stored[name].to_numpy()[0]) for name in SAMPLED_EFFECTS}
    errors = {
        name: np.nan_to_num(np.abs(values[name] - anew[name].sum(0)).max(), nan=np.inf) for name in SAMPLED_EFFECTS
    }
    worst = max(errors, key=lambda name: errors[name])
    size = f"largest deviation {errors[worst]:.1e} (allowed: {allowed:.1e})"
    if errors[worst] <= allowed:
        return Check(f"{what}: {place} recomputed over {count} tokens; {size}")
    return Check(what, f"{place}: {worst} is {text(values[worst])}, recomputed {text(anew[worst].sum(0))}; {size}")
