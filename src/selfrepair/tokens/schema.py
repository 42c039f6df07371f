"""Columns of the sampled tokens and of the clean pass."""

import polars as pl

from selfrepair.core.tables import Column

PLACE = {
    "row": Column(pl.Int32, "index", "row of tokens"),
    "pos": Column(pl.Int16, "index", "position that predicts; pos + 1 holds the correct next token"),
}
TOKENS = {
    "row": Column(pl.Int32, "index", "row of tokens"),
    "pos": Column(pl.Int32, "index", "position in the row; 0 is the beginning-of-text token"),
    "token": Column(pl.Int32, "id", "token of the model's tokenizer"),
    "document": Column(pl.Int32, "index", "document it comes from; null at position 0"),
    "offset": Column(pl.Int32, "tokens", "place within its document; the separator is its last"),
    "answer": Column(pl.Boolean, "", "whether it is an answer of a generated prompt"),
    "alternative": Column(pl.Int32, "id", "token of a wrong answer in its place; null where there is none"),
}
ROWS = {
    "row": Column(pl.Int32, "index", "row of tokens"),
    "source": Column(pl.Int32, "index", "row whose activations replace this one's in resample ablation"),
}
DOCUMENTS = {
    "document": Column(pl.Int32, "index", "document"),
    "name": Column(pl.String, "", "its name in the corpus"),
    "kind": Column(
        pl.String, "", "prose, code, or text where the corpus does not say; or the kind of a generated prompt"
    ),
}
