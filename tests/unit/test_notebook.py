"""The notebook of first steps runs, and shows what it shows in the repository."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "docs/first_steps.ipynb"


def texts(notebook: nbformat.NotebookNode) -> list[str]:
    """What the cells give as text; charts give their type only."""
    shown = (output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs)
    return [output.data["text/plain"] for output in shown if output.output_type == "execute_result"]


@pytest.mark.slow
def test_the_notebook_runs_and_gives_the_outputs_that_it_holds() -> None:
    kept = nbformat.read(NOTEBOOK, as_version=4)
    again = nbformat.from_dict(kept)
    again.cells = [nbformat.from_dict(cell | {"outputs": []}) if "outputs" in cell else cell for cell in kept.cells]
    NotebookClient(again, timeout=300, resources={"metadata": {"path": NOTEBOOK.parent}}).execute()
    assert len(texts(kept)) == len(texts(again)) == 6
    split, best = (float(texts(again)[2]), texts(again)[3])
    assert split < 1e-4
    assert texts(kept)[:2] == texts(again)[:2] and "self-repair" in best
    for cell in again.cells:
        assert all(output.output_type != "error" for output in cell.get("outputs", []))
