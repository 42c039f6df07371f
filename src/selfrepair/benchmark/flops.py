"""The arithmetic that a sweep cannot do without, counted from the shapes of the weights (method.md section 3).

Multiplications and additions count one each. Matrix products count, and attention over the positions that causality
and the window leave; norms, activations and dot products with the unembedding do not.
"""

from selfrepair.models.folded import FoldedModel, Layer


def attention_flops(model: FoldedModel, layer: Layer, positions: int) -> float:
    """FLOP of a layer's attention per token, averaged over the positions of a row."""
    window = min(layer.window or positions, positions)
    attended = sum(min(position + 1, window) for position in range(positions)) / positions
    return 2 * (layer.W_QKV.numel() + layer.W_O.numel()) + 4 * model.n_heads * model.d_head * attended


def mlp_flops(layer: Layer) -> int:
    """FLOP of a layer's MLP per token."""
    weights = (layer.W_in, layer.W_gate, layer.W_out)
    return 2 * sum(weight.numel() for weight in weights if weight is not None)


def sweep_flops(model: FoldedModel, positions: int) -> float:
    """FLOP per (token, head) of measuring every head of the model.

    A head's run takes its own output, its block's MLP where blocks are sequential, and every later layer; the clean
    run is shared by all heads.

    Args:
        positions: scored positions of a row, one less than its tokens.
    """
    mlps = [mlp_flops(layer) for layer in model.layers]
    layers = [attention_flops(model, layer, positions) + mlp for layer, mlp in zip(model.layers, mlps, strict=True)]
    own = 2 * model.d_head * model.d_model
    runs = sum(own + (0 if model.parallel else mlps[i]) + sum(layers[i + 1 :]) for i in range(model.n_layers))
    return runs / model.n_layers + sum(layers) / (model.n_layers * model.n_heads)
