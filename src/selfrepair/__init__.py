"""Measure self-repair in language models, exactly: `load_model`, then `measure`.

Names are imported when they are first used, so that light parts stay light.
"""

from importlib import import_module

__version__ = "0.1.0"
_HOME = {
    "FoldedModel": "selfrepair.models.folded",
    "Measurement": "selfrepair.measurement",
    "clean_pass": "selfrepair.clean",
    "load_model": "selfrepair.models.load",
    "measure": "selfrepair.sweep",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'selfrepair' has no attribute '{name}'")
    return getattr(import_module(_HOME[name]), name)
