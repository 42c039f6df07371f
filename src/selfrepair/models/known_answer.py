"""The numbers of a small GPT-2 whose weights are set by hand (`models.known_weights`, docs/known_answer.md).

Its stream has 15 coordinates, and its tokens are letters, whose bits are what its heads read.
"""

import math

import numpy as np
from jaxtyping import Int

# Tokens, in the order of base64: the number of a letter gives its bits.
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
N_HEADS, POSITIONS = 6, 16
# Coordinates of the stream: place in the row, a constant, the bits of the token, what was found for each bit.
PLACE, CONSTANT, BIT, FOUND, WIDTH = 0, 2, 3, 9, 15
# Sizes. The constant and the last layer's step of it make the scale before the last MLP 3 or 2.5, with letters alone.
WRITTEN = 3.0  # what heads of layer 0 write
STEP = math.sqrt(18.375)
START = 10.3125 / STEP  # of the constant
RADIUS = math.sqrt(9 - START**2)  # of the place, so that the squares of a letter's embedding sum to 15
BACKUP, ERASER, BUILDER, LATE = 2.0, 4.0, 2.0, 6.0  # what heads of layer 1 write, by what they read
NEURON, ERASED = 3, 1.5  # the erasing neuron of layer 1, and its output weight
BIAS = 0.5  # of the final norm, on what was found for bit 0


def bits_of(tokens: Int[np.ndarray, "*shape"]) -> Int[np.ndarray, "*shape 6"]:
    """Bits of tokens, 1 or -1, the first the most significant; all 0 for the end-of-text token, whose id is 64."""
    bits = 2 * (tokens[..., None] >> np.arange(5, -1, -1) & 1) - 1
    return np.where(tokens[..., None] == len(LETTERS), 0, bits)
