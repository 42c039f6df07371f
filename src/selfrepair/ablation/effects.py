"""What a measurement finds, and the check that its parts sum to the whole on every token."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from selfrepair.ablation.jobs import AblationJobs

TOLERANCE = 1e-4  # of the largest logit of the row


class DecompositionError(ArithmeticError):
    """The parts do not sum to the total, or a value is not finite; names the layer, the head and the size."""


@dataclass(frozen=True)
class Measurement:
    """Effects of ablations, per token; all in logits but the scales, which are ratios to 1.

    The axes `unit` are layer and head where heads are ablated (`measure`), else a single one (`measure_units`).

    `pos` is the position that predicts, `pos + 1` holds the correct next token. Definitions: experiments.md a.6, a.8;
    method.md section 2.

    Attributes:
        logit: clean logit of the correct next token, centred over the vocabulary.
        scale: clean scale of the final norm.
        direct_effect: of the head, clean pass, clean scale.
        delta_logit: ablated minus clean logit.
        delta_direct_effect: of the ablated head itself, ablated minus clean, clean scale.
        repair_attention: change of the direct effect of each layer's attention; zero up to the head's own layer.
        repair_mlp: change of the direct effect of each layer's MLP.
        repair_norm: effect of the change of the final scale on the ablated stream.
        ablated_scale: scale of the final norm in the ablated pass.
        own_scale: scale of the final norm if only the head's own output changed.
        repair_heads: change of the direct effect of each later head, whose sum over `later_head` is
            `repair_attention`; None if it was not asked for.
    """

    logit: Float[Tensor, "row pos"]
    scale: Float[Tensor, "row pos"]
    direct_effect: Float[Tensor, "*unit row pos"]
    delta_logit: Float[Tensor, "*unit row pos"]
    delta_direct_effect: Float[Tensor, "*unit row pos"]
    repair_attention: Float[Tensor, "*unit later_layer row pos"]
    repair_mlp: Float[Tensor, "*unit later_layer row pos"]
    repair_norm: Float[Tensor, "*unit row pos"]
    ablated_scale: Float[Tensor, "*unit row pos"]
    own_scale: Float[Tensor, "*unit row pos"]
    repair_heads: Float[Tensor, "*unit later_layer later_head row pos"] | None = None

    @property
    def self_repair(self) -> Float[Tensor, "*unit row pos"]:
        """Change of the logit beyond the change of the head's own direct effect (paper Eq. 1)."""
        return self.delta_logit - self.delta_direct_effect


@dataclass(frozen=True)
class TokenEffects:
    """Effects of any ablation jobs, per token (fields as in `Measurement`); the jobs' tokens follow each other.

    Attributes:
        jobs: ablation jobs, in the order of their tokens.
        rows: rows of the clean quantities `logit` and `scale`, ascending.
    """

    jobs: AblationJobs
    rows: Int[Tensor, " row"]
    logit: Float[Tensor, "row pos"]
    scale: Float[Tensor, "row pos"]
    direct_effect: Float[Tensor, " token"]
    delta_logit: Float[Tensor, " token"]
    delta_direct_effect: Float[Tensor, " token"]
    repair_attention: Float[Tensor, "token later_layer"]
    repair_mlp: Float[Tensor, "token later_layer"]
    repair_norm: Float[Tensor, " token"]
    ablated_scale: Float[Tensor, " token"]
    own_scale: Float[Tensor, " token"]

    @property
    def self_repair(self) -> Float[Tensor, " token"]:
        """Change of the logit beyond the change of the head's own direct effect (paper Eq. 1)."""
        return self.delta_logit - self.delta_direct_effect

    @property
    def largest_logit(self) -> Float[Tensor, " token"]:
        """Largest clean logit, in size, of each token's row: what errors are measured by."""
        row = torch.searchsorted(self.rows, self.jobs.row).to(self.logit.device)
        return self.jobs.per_token(self.logit.abs().amax(1)[row])

    @property
    def place(self) -> Int[Tensor, " token"]:
        """Where in `logit`, flattened, each token's clean pass is."""
        row = torch.searchsorted(self.rows, self.jobs.row)
        return self.jobs.per_token(row) * self.logit.shape[1] + self.jobs.pos


def check_decomposition(m: TokenEffects, units: Sequence[object] = ()) -> None:
    """Check on every token that the parts of self-repair sum to it.

    Args:
        units: what the jobs' heads count, if not heads.

    Raises:
        DecompositionError: by more than `TOLERANCE` of the row's largest logit they do not, or a value is not finite.
    """
    parts = m.repair_attention.sum(1) + m.repair_mlp.sum(1) + m.repair_norm
    error = (m.self_repair - parts).abs() / m.largest_logit
    broken = ~(error <= TOLERANCE)  # true for NaN as well
    if broken.any():
        first = int(broken.nonzero()[0])
        size = error[first].item()
        layer, head, row = (int(m.jobs.per_token(value)[first]) for value in (m.jobs.layer, m.jobs.head, m.jobs.row))
        of = units[head] if units else f"layer {layer}, head {head}"
        what = f"misses self-repair by {size:.1e} of the row's largest logit" if size == size else "is not finite"
        raise DecompositionError(f"{of}, row {row}: the sum of the parts {what} (allowed: {TOLERANCE:.0e})")
