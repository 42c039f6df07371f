"""Which tokens a run measures under each kind of ablation."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it imports torch, which planning a run should not wait for
    from selfrepair.ablation.selection import Measured


def measured_tokens(measure: "Measured", ablation: str) -> "Measured":
    """What `ablation.measure` of a configuration means for a kind of ablation.

    All tokens are for claims about effects without a filter, which are of resample ablation; zero and mean ablation,
    and units, are compared with it on top tokens, and so measured on selected tokens only.
    """
    return measure if ablation == "resample" else "selected"
