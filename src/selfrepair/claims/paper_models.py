"""Which models of a run are the paper's: by commit, by weights or by shape, never by their names."""

from typing import Any

SHAPE = ("family", "n_layers", "n_heads", "d_model", "d_vocab")


def recognise(
    facts: dict[str, Any], fetched: dict[str, Any] | None, papers: dict[str, dict[str, Any]]
) -> tuple[str, str] | None:
    """Return what the paper calls a model and how that is known, or None for a model that is not the paper's.

    A model is known by its hub id and commit, or by the SHA-256 of its weights. A local one whose weights are not on
    record is known by its shape, which says less and is said to.

    Args:
        facts: `model.json` of the model.
        fetched: hub, revision and files of a fetched model; None for a local one.
        papers: `paper_models` of config/claims.yaml.
    """
    for name, paper in papers.items():
        if fetched and (fetched["hub"], fetched["revision"]) == (paper.get("hub"), paper.get("revision")):
            return name, "commit"
        if paper.get("sha256") in facts["weights_sha256"].values():
            return name, "weights"
    if fetched is None:
        for name, paper in papers.items():
            if "sha256" not in paper and all(facts[key] == paper[key] for key in SHAPE):
                return name, "shape"
    return None
