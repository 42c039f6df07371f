"""Functions called by name: arguments take the type that the function says."""

from pathlib import Path

import polars as pl
import pytest

from selfrepair.core import by_name
from selfrepair.core.files import TableError


def example(table: pl.DataFrame, files: list[Path], names: list[str], count: int, name: str = "none") -> tuple:
    return table.rows(), files, names, count, name


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> None:
    module = type("Module", (), {"example": staticmethod(example)})
    monkeypatch.setattr(by_name, "import_module", {"selfrepair.some.module": module}.__getitem__)


def test_arguments_take_the_types_of_the_function(called: None, tmp_path: Path) -> None:
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "one.parquet")
    pl.DataFrame({"a": [2]}).write_csv(tmp_path / "two.csv")
    inputs = [f"table={tmp_path}/one.parquet", f"table={tmp_path}/two.csv", "files=x/y", "count=3", "name=a=b"]
    result = by_name.call("some.module:example", inputs)
    assert result == ([(1,), (2,)], [Path("x/y")], [], 3, "a=b")


def test_an_argument_that_the_function_lacks_is_named(called: None) -> None:
    with pytest.raises(ValueError, match=r"some\.module:example takes table, files, names, count, name, not heads"):
        by_name.call("some.module:example", ["heads=1"])


def test_tables_of_several_kinds_are_named(called: None, tmp_path: Path) -> None:
    """As when a shard of another run was put among them."""
    for name, column in (("a.csv", "x"), ("b.csv", "y")):
        (tmp_path / name).write_text(f"{column}\n1\n")
    with pytest.raises(TableError, match=r"a\.csv, .*b\.csv are of several kinds .*; delete them"):
        by_name.call("some.module:example", [f"table={tmp_path}/{name}.csv" for name in "ab"])


@pytest.mark.parametrize("name", ["empty.parquet", "nowhere.csv"])
def test_a_table_that_can_not_be_read_is_named_with_the_fix(called: None, tmp_path: Path, name: str) -> None:
    """A job that was killed by a full disk may leave one."""
    (tmp_path / "empty.parquet").touch()
    with pytest.raises(TableError, match=f"{name} can't be read .*; delete it, Snakemake makes it again"):
        by_name.call("some.module:example", [f"table={tmp_path / name}", "count=1"])
