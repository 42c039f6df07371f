"""Promoted and suppressed tokens: the clean pass says the same when it is asked for each token of the vocabulary."""

import polars as pl
import pytest
import torch
from jaxtyping import Int
from torch import Tensor

from selfrepair.ablation.clean import clean_pass
from selfrepair.ablation.clean_run import run_clean
from selfrepair.ablation.lens import LISTED, lens_table, mean_effects
from selfrepair.ablation.schema import LENS
from selfrepair.core.tables import frame
from selfrepair.tokens.schema import TOKENS
from tests.conftest import VOCABULARY, Zoo


def table_of(rows: Int[Tensor, "row pos"]) -> pl.DataFrame:
    """Rows of `TOKENS`; each row is a document."""
    row, pos = torch.ones_like(rows).nonzero(as_tuple=True)
    columns = {"row": row, "pos": pos, "token": rows.flatten(), "document": row, "offset": pos}
    prompts = {"answer": [False] * len(row), "alternative": [None] * len(row)}
    return frame({name: values.numpy() for name, values in columns.items()} | prompts, TOKENS)


@pytest.mark.parametrize("architecture", ["gpt2", "neox_parallel", "llama_gqa"])
@pytest.mark.parametrize("chunk", [20, 10_000])
def test_effects_are_means_of_direct_effects_on_every_token(zoo: Zoo, rows, architecture, chunk, monkeypatch):
    """A row that ends with another token has that token as its correct next one, and the same stream before it."""
    monkeypatch.setattr("selfrepair.ablation.lens.chunk_tokens", lambda model: chunk)
    model = zoo.folded(architecture)
    tokens = table_of(rows)
    clean = run_clean(model, tokens, 0.05, 5, seed=2)
    found = mean_effects(model, tokens, clean.tokens, clean.selected)
    vocabulary = torch.arange(VOCABULARY)
    for (layer, head), top in clean.selected.partition_by("layer", "head", as_dict=True).items():
        of_tokens = []
        for row, pos in top.select("row", "pos").rows():
            before = rows[row, : pos + 1].expand(VOCABULARY, -1)
            asked = clean_pass(model, torch.cat([before, vocabulary[:, None]], dim=1))
            of_tokens.append(asked.direct_effect[layer, head, :, pos])
        torch.testing.assert_close(found[layer, head], torch.stack(of_tokens).mean(0), rtol=1e-4, atol=1e-5)


def test_the_table_lists_the_largest_and_the_smallest_effects():
    effects = torch.randn(2, 3, 50, generator=torch.Generator().manual_seed(1))
    table = lens_table(effects)
    assert table.schema == {name: column.dtype for name, column in LENS.items()}
    assert len(table) == 2 * 3 * 2 * LISTED
    for layer in range(2):
        for head in range(3):
            ranked = sorted(enumerate(effects[layer, head].tolist()), key=lambda pair: pair[1])
            for sign, expected in (("suppressed", ranked[:LISTED]), ("promoted", ranked[::-1][:LISTED])):
                rows = table.filter(layer=layer, head=head, sign=sign).sort("place")
                assert rows["place"].to_list() == list(range(LISTED))
                assert list(zip(rows["token"], rows["direct_effect"], strict=True)) == expected
    assert table.filter(pl.col("sign") == "promoted")["direct_effect"].min() > 0
