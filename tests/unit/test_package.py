"""The wheel works alone, outside the checkout, in an environment that has what it depends on."""

import site
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "workflow/resources/models/tiny-gpt2"
USE = """
import sys, torch, selfrepair as sr
assert "site-packages" in sr.__file__ and sr.__version__[0].isdigit()
model = sr.load_model(sys.argv[1])
tokens = sr.tokenize(model, "def zeros(shape): return a new array of zeros. " * 20, 32)
m = sr.measure(model, tokens, source=torch.arange(len(tokens)).roll(1))
print(tuple(m.self_repair.shape[:2]))
"""


@pytest.mark.slow
def test_the_wheel_measures_a_model_outside_the_checkout(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.stat().st_size < 1_000_000
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv/bin/python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", wheel], check=True)
    (packages,) = (tmp_path / "venv/lib").glob("python*/site-packages")
    # What it depends on comes after the wheel on the path, so that the checkout is never imported.
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()))
    done = subprocess.run([python, "-c", USE, MODEL], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("(6, 8)")
