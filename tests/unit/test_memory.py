"""Batches are as large as memory allows and need be; what is said about memory is what is taken."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

from selfrepair.ablation.jobs import AblationJobs
from selfrepair.ablation.memory import CHUNKS_A_LAYER, allowance, chunk_tokens, tokens_at_once

CPU = torch.device("cpu")
MEASURE = """
import sys
from pathlib import Path
import numpy as np, polars as pl, psutil, torch
from selfrepair.ablation import memory
from selfrepair.ablation.clean_run import run_clean
from selfrepair.ablation.shard import ablate_shard
from selfrepair.benchmark.random_model import Shape, random_folded
from selfrepair.tokens.rows import sample_tokens

torch.set_num_threads(1)
memory.CHUNKS_A_LAYER = 10**6  # let memory be what limits
model = random_folded("random", Shape("gpt2", 2, 16, 64, 64, 97, 64))
texts = [np.random.default_rng(i).integers(1, 97, 40).tolist() for i in range(900)]
names = pl.DataFrame({"name": [str(i) for i in range(len(texts))], "kind": ["text"] * len(texts)})
sampled = sample_tokens(encoded=texts, bos=0, separator=0, documents=names, n_rows=500, row_length=64, seed=1)
clean = run_clean(model, sampled.tokens, 0.02, 100, seed=2)
setting = psutil.Process().memory_info().rss // 10**6 + int(sys.argv[1])  # libraries alone differ by 100 MB
Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to what is resident now
ablate_shard(model, sampled.tokens, sampled.rows, clean, "resample", model.heads, 0, 1, "all", setting)
status = Path("/proc/self/status").read_text()
peak = next(int(line.split()[1]) * 1024 / 1e6 for line in status.splitlines() if line.startswith("VmHWM"))
print(peak / setting)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of memory is read from Linux's /proc")
def test_an_explicit_setting_is_kept_and_used():
    """To 20 %: more would break a machine, much less would waste it."""
    used = {}
    for megabytes in (250, 500):
        environment = os.environ | {"PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", MEASURE, str(megabytes)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        used[megabytes] = float(done.stdout.split()[-1])
    assert all(0.6 < share < 1.2 for share in used.values()), used


def test_batches_are_no_larger_than_they_need_be(zoo):
    """All memory of a machine would be taken for nothing."""
    model = zoo.folded("gpt2")
    jobs = AblationJobs.all_pairs(model.heads, torch.arange(10**4), 11)
    assert tokens_at_once(model, jobs, 11, 10**15) == CHUNKS_A_LAYER * chunk_tokens(model) * model.n_layers


def test_too_little_memory_is_said(zoo):
    model = zoo.folded("gpt2")
    jobs = AblationJobs.all_pairs(model.heads, torch.arange(5), 11)
    with pytest.raises(
        ValueError, match=r"memory: gpt2 needs [\d,]+ MB more for a single job than the 1 MB that are left"
    ):
        tokens_at_once(model, jobs, 11, 10**6)


def test_a_job_takes_its_share_of_what_is_free(monkeypatch):
    """Jobs that run side by side must not each take everything."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("", (), {"available": 8 * 10**9}))
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    assert allowance(CPU, None, None, threads=1) == 2 * 10**9
    assert allowance(CPU, None, None, threads=16) == 8 * 10**9


@pytest.mark.parametrize(("memory_mb", "limit_mb"), [(4000, None), (4000, 9000), (None, 4000)])
def test_what_was_set_or_granted_is_not_exceeded(monkeypatch, memory_mb, limit_mb):
    """However much is free; and a setting counts before what was granted."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("", (), {"available": 10**15}))
    left = allowance(CPU, memory_mb, limit_mb, threads=1)
    assert left == pytest.approx(4000 * 10**6 - psutil.Process().memory_info().rss, abs=10**8)
