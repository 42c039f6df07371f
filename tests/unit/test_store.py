"""Tables have exactly the documented columns, and files are whole or absent."""

import polars as pl
import pytest

from selfrepair.ablation.schema import HEAD, by_layer
from selfrepair.core.files import write_atomically
from selfrepair.core.tables import Column, frame, write_parquet
from selfrepair.report.documentation import FAMILY, parquet_tables

SCHEMA = {
    "layer": Column(pl.Int16, "index", "layer of the head"),
    "value": Column(pl.Float64, "logits", "some effect"),
}
DOCUMENTED = parquet_tables(n_layers=3, n_heads=2) | FAMILY


@pytest.mark.parametrize("path", DOCUMENTED)
def test_every_column_is_documented(path):
    """Otherwise results/README.md can't say what a column means."""
    for name, column in DOCUMENTED[path].items():
        assert column.meaning.strip(), name
        numeric = isinstance(column.dtype, pl.Array) or column.dtype.is_numeric()
        assert bool(column.unit.strip()) == numeric, f"{name}: numbers have a unit, names and flags have none"
        assert pl.Series([], dtype=column.dtype).dtype == column.dtype


def test_a_frame_has_the_columns_of_the_schema_in_its_order():
    table = frame({"value": [1, 2], "layer": [0, 1]}, SCHEMA)
    assert table.schema == {"layer": pl.Int16, "value": pl.Float64}
    assert table.rows() == [(0, 1.0), (1, 2.0)]


@pytest.mark.parametrize(
    ("columns", "named"), [({"layer": [0]}, "value"), ({"layer": [0], "value": [1.0], "extra": [1]}, "extra")]
)
def test_a_frame_with_a_column_missing_or_extra_is_refused_by_name(columns, named):
    with pytest.raises(ValueError, match=rf"columns \['{named}'\] are missing or not in the schema"):
        frame(columns, SCHEMA)


class StopError(RuntimeError):
    pass


def interrupted(path) -> None:
    path.write_text("half of")
    raise StopError


def test_a_failed_write_leaves_nothing(tmp_path):
    """Otherwise a job that died leaves a file that the next one takes for a result."""
    with pytest.raises(StopError):
        write_atomically(tmp_path / "new" / "table.csv", interrupted)
    assert list((tmp_path / "new").iterdir()) == []


def test_a_failed_write_keeps_what_was_there(tmp_path):
    """The old file stays whole: it is never opened for writing."""
    (tmp_path / "table.csv").write_text("old")
    with pytest.raises(StopError):
        write_atomically(tmp_path / "table.csv", interrupted)
    assert (tmp_path / "table.csv").read_text() == "old"


def test_the_target_appears_only_when_it_is_complete(tmp_path):
    """A kill in the middle of writing must not leave a truncated file under the final name."""
    target, seen = tmp_path / "table.csv", []

    def write(path) -> None:
        path.write_text("half of")
        seen.append(
            (path != target, target.exists(), path.parent == target.parent)
        )  # same file system: rename is atomic
        path.write_text("everything")

    write_atomically(target, write)
    assert seen == [(True, False, True)]
    assert target.read_text() == "everything"
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]


def test_parquet_survives_the_disk(tmp_path):
    """Types and values come back, lists by layer included."""
    schema = HEAD | by_layer(2)
    columns = {"layer": [0, 1], "head": [3, 2], "repair_attention_by_layer": [[0.0, 1.5], [2.0, -1.0]]}
    table = frame(columns | {"repair_mlp_by_layer": [[0.0, 0.0], [1.0, 2.0]]}, schema)
    write_parquet(table, tmp_path / "a" / "table.parquet")
    assert pl.read_parquet(tmp_path / "a" / "table.parquet").equals(table)
