"""Where models run."""

import torch


def pick_device(wanted: str) -> str:
    """Resolve `auto`, `cpu` or `cuda` and say what was chosen.

    Raises:
        ValueError: `cuda` was asked for and there is none.
    """
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise ValueError("device: cuda was asked for, but torch sees no GPU; set `device` to auto or cpu")
    device = "cuda" if available and wanted != "cpu" else "cpu"
    print(f"running on {device}" + ("" if available or wanted == "cpu" else ", as torch sees no GPU"), flush=True)
    return device


def describe_device(device: str) -> str:
    """Name the device: `cpu`, or the GPU's own name."""
    return torch.cuda.get_device_name() if device == "cuda" else device
