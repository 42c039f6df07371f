"""Measure self-repair in language models, exactly: `load_model`, `tokenize`, then `measure`.

Names are imported when they are first used, so that light parts stay light.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

_HOME = {
    "FoldedModel": "selfrepair.models.folded",
    "Measurement": "selfrepair.ablation.effects",
    "clean_pass": "selfrepair.ablation.clean",
    "load_model": "selfrepair.models.load",
    "measure": "selfrepair.ablation.measure",
    "measure_units": "selfrepair.ablation.measure",
    "tokenize": "selfrepair.models.tokenize",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    if name == "__version__":
        try:
            return version("selfrepair")
        except PackageNotFoundError:
            return "unknown: not installed"
    if name not in _HOME:
        raise AttributeError(f"module 'selfrepair' has no attribute '{name}'")
    return getattr(import_module(_HOME[name]), name)
