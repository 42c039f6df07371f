"""Captions of figures and tables: texts by kind, filled in with the model and ablation that a file's name holds."""

from pathlib import Path
from typing import NamedTuple

Texts = dict[str, dict[str, str]]


class Caption(NamedTuple):
    """Section in which a figure or table stands, its title and what it shows."""

    section: str
    title: str
    text: str


def caption_of(path: Path, captions: Texts) -> Caption:
    """Return the caption of a file named `kind[.model][.ablation].suffix`; its title says what the name holds.

    Raises:
        KeyError: there is no caption for this kind.
    """
    kind, *rest = path.stem.split(".")
    if kind not in captions:
        raise KeyError(f"no caption for figures named {kind}; there are captions for {', '.join(captions)}")
    texts = captions[kind]
    names = {"ablation": rest.pop() if "{ablation}" in texts["title"] else "", "model": ".".join(rest)}
    return Caption(texts["section"], texts["title"].format(**names), texts["caption"].format(**names))
