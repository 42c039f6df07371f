"""Recomputation from Hugging Face's unfolded model and the sweep over the folded one find the same effects."""

import shutil

import pytest
import torch

from selfrepair.ablation.effects import Measurement
from selfrepair.ablation.measure import measure
from selfrepair.ablation.replacements import ABLATIONS
from selfrepair.artifact.reference_model import Recomputation
from selfrepair.models.folded_files import load_folded
from selfrepair.models.load import fold_to_disk

HEADS = [(0, 1), (1, 3), (2, 0)]
BOTH = (
    "direct_effect",
    "delta_logit",
    "self_repair",
    "repair_norm",
    "ablated_scale",
    "own_scale",
)


def assert_agree(model: Recomputation, m: Measurement, rows, source, kind: str) -> None:
    means = model.mean_z(rows) if kind == "mean" else None
    for layer, head in HEADS:
        for row in (0, 4):
            found = model.effects(rows[row], rows[source[row]], layer, head, kind, means)
            expected = {name: getattr(m, name)[layer, head, row] for name in BOTH}
            expected |= {"logit": m.logit[row], "scale": m.scale[row]}
            expected["ablated_logit"] = m.logit[row] + m.delta_logit[layer, head, row]
            expected["ablated_direct_effect"] = (m.direct_effect + m.delta_direct_effect)[layer, head, row]
            for part in ("repair_attention", "repair_mlp"):
                by_layer = getattr(m, part)[layer, head, :, row].T
                expected |= {part: by_layer.sum(1), f"{part}_by_layer": by_layer}
            assert set(found) == set(expected)
            close = 2e-5 * m.logit[row].abs().max().item()
            for name, value in expected.items():
                torch.testing.assert_close(
                    found[name], value.double(), atol=close, rtol=2e-5, msg=lambda text, n=name: f"{n}: {text}"
                )


@pytest.mark.parametrize("kind", ABLATIONS)
def test_every_column_of_every_family_is_found_again(zoo, architecture, rows, source, kind):
    """Among the families are value biases, windows, untied heads, parallel blocks, grouped heads and both norms."""
    m = measure(zoo.folded(architecture), rows, source, kind)
    assert_agree(Recomputation(zoo.folder(architecture)), m, rows, source, kind)


@pytest.mark.parametrize("architecture", ["llama_mha", "llama_gqa", "mistral"])
def test_so_are_those_in_the_authors_units(zoo, rows, source, tmp_path, architecture):
    fold_to_disk(zoo.folder(architecture), architecture, tmp_path / "folded", "float32", authors_units=True)
    m = measure(load_folded(tmp_path / "folded"), rows, source)
    assert_agree(Recomputation(zoo.folder(architecture), authors_units=True), m, rows, source, "resample")


def test_nothing_stays_hooked_to_the_model(zoo, rows):
    model = Recomputation(zoo.folder("gpt2"))
    model.run(rows[0], (1, 2, torch.zeros(rows.shape[1], 8, dtype=torch.float64)))
    hooks = [m for m in model.model.modules() if m._forward_hooks or m._forward_pre_hooks]
    assert not hooks


def test_weights_of_another_name_are_read_and_a_pickle_beside_them_is_not(zoo, tmp_path) -> None:
    folder = shutil.copytree(zoo.folder("gpt2"), tmp_path / "gpt2")
    (folder / "model.safetensors").rename(folder / "weights.safetensors")
    (folder / "pytorch_model.bin").write_bytes(b"a pickle that must not be opened")
    same = Recomputation(folder).model.state_dict()
    for name, tensor in Recomputation(zoo.folder("gpt2")).model.state_dict().items():
        assert torch.equal(same[name], tensor), name
