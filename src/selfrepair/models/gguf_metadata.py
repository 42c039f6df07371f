"""How the values in the header of a GGUF file are read, and of what kind those must be that say something here."""

import math
import mmap
import reprlib
import struct
from collections.abc import Callable
from typing import Any

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9


class Cursor:
    """Reads values one after the other."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.at = data, 4

    def unpack(self, layout: str) -> tuple:
        values = struct.unpack_from(f"<{layout}", self.data, self.at)
        self.at += struct.calcsize(f"<{layout}")
        return values

    def string(self) -> str:
        (length,) = self.unpack("Q")
        if self.at + length > len(self.data):
            raise struct.error(f"a text of {length} bytes")
        self.at += length
        return self.data[self.at - length : self.at].decode()

    def value(self, kind: int) -> Any:
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            kind, count = self.unpack("IQ")
            return [self.value(kind) for _ in range(count)]
        return self.unpack(SCALARS[kind])[0]


def _whole(value: object, least: int) -> bool:
    return type(value) is int and value >= least


def _list_of(*kinds: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(type(item) in kinds for item in value)


Kind = tuple[str, Callable[[Any], bool]]
COUNT: Kind = ("a whole number from 1", lambda value: _whole(value, 1))
NUMBER: Kind = ("a whole number from 0", lambda value: _whole(value, 0))
POSITIVE: Kind = ("a number above 0", lambda value: type(value) in (int, float) and 0 < value < math.inf)
TEXT: Kind = ("a text", lambda value: isinstance(value, str))
TEXTS: Kind = ("a list of texts", _list_of(str))
COUNTS: tuple[str, ...] = ("block_count", "context_length", "embedding_length", "feed_forward_length")
COUNTS += ("attention.head_count", "attention.head_count_kv", "attention.key_length", "rope.dimension_count")
OF_MODEL = {
    **dict.fromkeys(COUNTS, COUNT),
    **dict.fromkeys(("expert_count", "attention.sliding_window"), NUMBER),
    **dict.fromkeys(("attention.layer_norm_epsilon", "attention.layer_norm_rms_epsilon", "rope.freq_base"), POSITIVE),
    "rope.scaling.type": TEXT,
}
OF_FILE = {
    **dict.fromkeys(("split.count", "tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id"), NUMBER),
    **dict.fromkeys(("general.type", "tokenizer.ggml.model", "tokenizer.ggml.pre"), TEXT),
    **dict.fromkeys(("tokenizer.ggml.tokens", "tokenizer.ggml.merges"), TEXTS),
    "tokenizer.ggml.scores": ("a list of numbers", _list_of(int, float)),
    "tokenizer.ggml.token_type": ("a list of whole numbers", _list_of(int)),
    "tokenizer.ggml.add_space_prefix": ("true or false", lambda value: isinstance(value, bool)),
}


def odd_metadata(metadata: dict[str, Any], architecture: str) -> str | None:
    """What is wrong with the first value that is of another kind than it must be."""
    for key, (kind, fits) in (OF_FILE | {f"{architecture}.{key}": kind for key, kind in OF_MODEL.items()}).items():
        value = metadata.get(key)
        if value is not None and not fits(value):
            return f"{key} is {reprlib.repr(value)}, where {kind} is needed"
    return None
