"""The statistics that answer the questions of config/studies.yaml, in one form."""

import polars as pl
from jaxtyping import Float
from numpy import ndarray

from selfrepair.analysis.schema_beyond import FINDINGS
from selfrepair.core.tables import frame

Number = Float[ndarray, ""]


def findings(
    model: str, study: str, found: dict[str, tuple[str, Number, Number, Number]], n_documents: int
) -> pl.DataFrame:
    """A table of `FINDINGS`.

    Args:
        found: by statistic: the tokens that it is measured on, its value, and the ends of its interval.
        n_documents: documents that are drawn.
    """
    columns = {
        "model": [model] * len(found),
        "study": [study] * len(found),
        "statistic": list(found),
        "tokens": [tokens for tokens, *_ in found.values()],
        **{name: [float(of[place]) for of in found.values()] for place, name in enumerate(("value", "low", "high"), 1)},
        "n_documents": [n_documents] * len(found),
    }
    return frame(columns, FINDINGS)
