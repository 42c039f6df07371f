"""Columns of the sampled tokens and of the clean pass."""

import polars as pl

from selfrepair.store import Column

HEAD = {
    "layer": Column(pl.Int16, "index", "layer of the head, from 0"),
    "head": Column(pl.Int16, "index", "head within its layer, from 0"),
}
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
}
ROWS = {
    "row": Column(pl.Int32, "index", "row of tokens"),
    "source": Column(pl.Int32, "index", "row whose activations replace this one's in resample ablation"),
}
DOCUMENTS = {
    "document": Column(pl.Int32, "index", "document"),
    "name": Column(pl.String, "", "its name in the corpus"),
    "kind": Column(pl.String, "", "prose, code, or text where the corpus does not say"),
}
CLEAN_TOKENS = PLACE | {
    "document": Column(pl.Int32, "index", "document of the correct next token"),
    "control": Column(pl.Boolean, "", "in the uniform control sample"),
    "logit": Column(pl.Float32, "logits", "clean logit of the correct next token, centred over the vocabulary"),
    "bias": Column(pl.Float32, "logits", "part of it that is the unembedding bias"),
    "scale": Column(pl.Float32, "ratio", "clean scale of the final norm"),
}
SELECTED = (
    HEAD
    | PLACE
    | {
        "rank": Column(pl.Int32, "index", "0 for the token with the head's largest direct effect"),
        "direct_effect": Column(pl.Float32, "logits", "clean direct effect of the head"),
    }
)
