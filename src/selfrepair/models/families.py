"""Groups of the supported families, and the shapes that a configuration gives the matrices of a layer."""

from typing import Any

DECODER = "selfrepair_decoder"  # the controlled family (`models.decoder`)
RMS_NORM = ("llama", "mistral", "qwen2")  # families whose norm does not centre
GROUPED = (*RMS_NORM, DECODER)  # families whose key-value heads may be fewer than their heads; layers as Llama's
# Keys that only these families' classes read; Hugging Face passes over them in another's configuration.
OWN_KEYS = {
    "num_key_value_heads": GROUPED,
    "use_parallel_residual": ("gpt_neox", DECODER),
    **dict.fromkeys(("scale_attn_weights", "scale_attn_by_inverse_layer_idx"), ("gpt2",)),
}
GATE = ".mlp.gate_proj.weight"  # the controlled family has it in some arms only
Shape = tuple[int | None, int | None]  # None: the configuration does not say it


def layer_shapes(config: dict[str, Any]) -> dict[str, Shape]:
    """Shapes as the files of a family keep them, by what a tensor is called within its layer."""
    numbers = {key: value for key, value in config.items() if type(value) is int and value > 0}
    family, get = config["model_type"], numbers.get
    width, mlp = get("hidden_size") or get("n_embd"), get("intermediate_size")
    square, thrice = (width, width), width and 3 * width
    if family in GROUPED:
        heads, d_head = get("num_attention_heads", 1), get("head_dim") if family in RMS_NORM else None
        q = heads * d_head if d_head else width
        kv = (n := get("num_key_value_heads")) and q and q // heads * n
        shapes = {"self_attn.q_proj": (q, width), "self_attn.o_proj": (width, q)}
        shapes |= dict.fromkeys(("self_attn.k_proj", "self_attn.v_proj"), (kv, width))
        shapes |= {"mlp.up_proj": (mlp, width), "mlp.gate_proj": (mlp, width), "mlp.down_proj": (width, mlp)}
    elif family == "gpt2":  # the only one that keeps them as (in, out)
        mlp = get("n_inner")
        shapes = {"attn.c_attn": (width, thrice), "attn.c_proj": square}
        shapes |= {"mlp.c_fc": (width, mlp), "mlp.c_proj": (mlp, width)}
    elif family == "gpt_neo":
        shapes = {f"attn.attention.{name}_proj": square for name in ("q", "k", "v", "out")}
        shapes |= {"mlp.c_fc": (mlp, width), "mlp.c_proj": (width, mlp)}
    elif family == "gpt_neox":
        shapes = {"attention.query_key_value": (thrice, width), "attention.dense": square}
        shapes |= {"mlp.dense_h_to_4h": (mlp, width), "mlp.dense_4h_to_h": (width, mlp)}
    else:
        mlp = get("ffn_dim")
        shapes = {f"self_attn.{name}_proj": square for name in ("q", "k", "v", "out")}
        shapes |= {"fc1": (mlp, width), "fc2": (width, mlp)}
    return {f".{name}.weight": shape for name, shape in shapes.items()}
