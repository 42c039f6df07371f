"""What must be measured on the model of `models.known_answer`, worked out on paper.

No weight, matrix or attention pattern is read here: this is the derivation of docs/known_answer.md, in the few numbers
that heads write.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from selfrepair.models.known_answer import (
    BACKUP,
    BIAS,
    BUILDER,
    ERASED,
    ERASER,
    LATE,
    RADIUS,
    START,
    STEP,
    WIDTH,
    WRITTEN,
    bits_of,
)

SCALES = ("scale", "ablated_scale", "own_scale")
WROTE = np.array([0, BACKUP, -ERASER, BUILDER, 0, LATE])  # by heads of layer 1, for each bit
# By hand, where the next token has the bits that were read and the source's bit is the other: 3 is what stands in a
# coordinate, 6 what it changes by, 2.5 or 3 the final scale, but where the neuron erases.
ERASING = (2.5**2 - (3**2 - 1.2**2) / 15) ** 0.5
PENCIL = {
    (0, 0): {"direct_effect": 3 / 2.5, "delta_logit": -6 / 2.5},
    (0, 1): {"direct_effect": 3 / 2.5, "delta_logit": 0.0, "repair_attention": 6 / 2.5},
    (0, 2): {"direct_effect": 3 / 2.5, "delta_logit": 6 / 2.5, "repair_attention": 12 / 2.5},
    (0, 3): {"direct_effect": 3 / 2.5, "delta_logit": -12 / 2.5, "repair_attention": -6 / 2.5},
    (0, 4): {
        "direct_effect": 3 / ERASING,
        "delta_logit": 9 / 2.5 - 13.2 / ERASING,
        "repair_mlp": 1.8 / ERASING,
        "repair_norm": 9 / 2.5 * (1 - 2.5 / ERASING),
    },
    (1, 5): {"direct_effect": 3 / 3, "delta_logit": 9 / 2.5 - 15 / 3, "repair_norm": 9 / 2.5 * (1 - 2.5 / 3)},
}
Numbers = Float[np.ndarray, "row pos six"]


def pencil(head: tuple[int, int]) -> dict[str, float]:
    """The effects of ablating a head on the tokens of `pencil_tokens`, in logits: its own effect changes its sign."""
    effects = {"repair_attention": 0.0, "repair_mlp": 0.0, "repair_norm": 0.0} | PENCIL[head]
    return effects | {"self_repair": effects["delta_logit"] + 2 * effects["direct_effect"]}


def pencil_tokens(
    tokens: Int[np.ndarray, "row pos"], source: Int[np.ndarray, " row"], head: tuple[int, int]
) -> Bool[np.ndarray, "row predicting"]:
    """Tokens of the kind that is worked by hand for a head.

    The next token has all bits that were read, and the source the other bit for this head; bits 4 and 5 are 1 if their
    head is the ablated one, and else -1.
    """
    bits = bits_read(tokens)
    _, ablated = head
    fourth, fifth = (1 if ablated == bit else -1 for bit in (4, 5))
    predicted = (bits == bits_of(tokens[:, 1:])).all(-1)
    turned = bits[source][..., ablated] == -bits[..., ablated]
    letters = bits[source].all(-1)  # the end of text has no bits, and makes the scale smaller
    return predicted & turned & letters & (bits[..., 4] == fourth) & (bits[..., 5] == fifth)


def bits_read(tokens: Int[np.ndarray, "row pos"]) -> Int[np.ndarray, "row predicting six"]:
    """Bits that heads read: those of even number of the token before, the others of the token itself."""
    bits = bits_of(tokens[:, :-1])
    before = np.concatenate([bits[:, :1], bits[:, :-1]], axis=1)
    return np.stack([(before, bits)[bit % 2][..., bit] for bit in range(6)], axis=-1)


def derive(
    tokens: Int[np.ndarray, "row pos"], source: Int[np.ndarray, " row"], ablation: str
) -> dict[str, Float[np.ndarray, "layer head row pos"]]:
    """Effects of ablating each head on each token, in logits, and the scales, by the names of `ablated_tokens`.

    Args:
        tokens: rows that begin with the end-of-text token.
        source: for each row, the row that resampled values come from.
    """
    bits, correct = bits_of(tokens[:, :-1]), bits_of(tokens[:, 1:])
    found = WRITTEN * bits_read(tokens) * np.array([1, 1, 1, 1, 1, 0])

    def squares(found: Numbers, constant: Float[np.ndarray, "row pos"] | float) -> Float[np.ndarray, "row pos"]:
        return RADIUS**2 + constant**2 + (bits**2).sum(-1) + (found**2).sum(-1)

    def read(found: Numbers) -> Numbers:
        """What the heads of layer 1 read."""
        zero = 0 * found[..., 0]
        numbers = [zero, WRITTEN * bits[..., 1] - found[..., 1], found[..., 2], found[..., 3], zero, bits[..., 5]]
        return np.stack(numbers, axis=-1) / np.sqrt(squares(found, START) / WIDTH)[..., None]

    def close(found: Numbers, z: Numbers) -> dict[str, Float[np.ndarray, "row pos"]]:
        """Logit, final scale, and what attention and the neuron of layer 1 write, times the correct token's bits."""
        constant, total = START + 2 * STEP * z[..., 5], found + WROTE * z
        erased = -ERASED * total[..., 4].clip(0) / np.sqrt(squares(total, constant) / WIDTH)
        total[..., 4] += erased
        scale = np.sqrt(squares(total, constant) / WIDTH)
        return {
            "logit": (correct * total).sum(-1) / scale + BIAS * correct[..., 0],
            "scale": scale,
            "attention": (correct * WROTE * z).sum(-1),
            "mlp": correct[..., 4] * erased,
            "total": total,
            "constant": constant,
        }

    z = read(found)
    clean = close(found, z)
    effects = []
    for layer in (0, 1):
        for head in range(6):
            written = [found, z][layer]
            replaced = written.copy()
            other = {"resample": written[source], "zero": 0 * written, "mean": written.mean((0, 1), keepdims=True)}
            replaced[..., head] = other[ablation][..., head]
            ablated = close(replaced, read(replaced)) if layer == 0 else close(found, replaced)
            factor = [1, WROTE[head]][layer]
            own = factor * (replaced - written)
            direct = correct[..., head] * factor * written[..., head] / clean["scale"]
            change = correct[..., head] * own[..., head] / clean["scale"]
            alone = clean["constant"] + layer * (head == 5) * 2 * STEP * (replaced - written)[..., 5]
            effects.append(
                {
                    "logit": clean["logit"],
                    "ablated_logit": ablated["logit"],
                    "scale": clean["scale"],
                    "ablated_scale": ablated["scale"],
                    "own_scale": np.sqrt(squares(clean["total"] + own, alone) / WIDTH),
                    "direct_effect": direct,
                    "ablated_direct_effect": direct + change,
                    "delta_logit": ablated["logit"] - clean["logit"],
                    "self_repair": ablated["logit"] - clean["logit"] - change,
                    "repair_norm": (ablated["logit"] - BIAS * correct[..., 0])
                    * (1 - ablated["scale"] / clean["scale"]),
                    "repair_attention": (1 - layer) * (ablated["attention"] - clean["attention"]) / clean["scale"],
                    "repair_mlp": (ablated["mlp"] - clean["mlp"]) / clean["scale"],
                }
            )
    return {name: np.stack([each[name] for each in effects]).reshape(2, 6, *bits.shape[:2]) for name in effects[0]}
