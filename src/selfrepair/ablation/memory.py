"""How much memory a job may take, and how many ablated tokens that holds."""

import os

import psutil
import torch

from selfrepair.ablation.jobs import AblationJobs
from selfrepair.models.folded import FoldedModel

# Activations of the tokens that pass a block together: on a CPU few enough to use the same memory again and again, on a
# GPU enough to keep it busy.
CHUNK_BYTES = {"cpu": 128 * 2**20, "cuda": 2 * 2**30}
SMALLEST_CHUNK = 512  # tokens; below that the products are too thin
MARGIN = 0.9  # of the allowance; the rest is for what the formula below does not count
CHUNKS_A_LAYER = 4  # joining jobs of a layer fill about so many chunks: more rows at once would gain nothing


def chunk_tokens(model: FoldedModel) -> int:
    """Tokens that pass a block together."""
    return max(SMALLEST_CHUNK, CHUNK_BYTES[model.device.type] // _activations(model))


def _activations(model: FoldedModel) -> int:
    """Bytes that a token takes up while it passes a block."""
    layer = model.layers[0]
    d_mlp, qkv = layer.W_out.shape[0], layer.W_QKV.shape[1]
    return _size(model) * (qkv + 10 * model.d_model + (2 if layer.W_gate is None else 3) * d_mlp)


def _size(model: FoldedModel) -> int:
    return torch.finfo(model.dtype).bits // 8


def allowance(device: torch.device, memory_mb: int | None, limit_mb: int | None, threads: int) -> int:
    """Bytes that this process may still take on a device.

    Args:
        memory_mb: of the whole process, on the GPU where it runs on one; None for what is free. Of a machine's free
            memory a process takes the share that its threads are of the cores, as others run beside it.
        limit_mb: of the machine's memory, what a batch system grants the process; None for no limit.
    """
    if device.type == "cuda":
        taken = torch.cuda.memory_reserved(device)
        free, _ = torch.cuda.mem_get_info(device)
        return free if memory_mb is None else memory_mb * 10**6 - taken
    taken = psutil.Process().memory_info().rss
    if memory_mb is not None:
        return memory_mb * 10**6 - taken
    share = min(1.0, threads / (os.cpu_count() or 1))
    free = int(share * psutil.virtual_memory().available)
    return free if limit_mb is None else min(free, limit_mb * 10**6 - taken)


def batches_in_memory(
    model: FoldedModel,
    jobs: AblationJobs,
    length: int,
    memory_mb: int | None,
    limit_mb: int | None,
    reserve: int = 0,
    units: bool = False,
) -> list[AblationJobs]:
    """Divide jobs into batches that memory holds, each in the order of a sweep.

    Args:
        length, reserve, units: as in `tokens_at_once`.
        memory_mb, limit_mb: as in `allowance`.

    Raises:
        ValueError: there is no room for a single job; says how much is needed.
    """
    room = allowance(model.device, memory_mb, limit_mb, torch.get_num_threads())
    size = tokens_at_once(model, jobs, length, room, reserve, units)
    return [batch.ordered() for batch in jobs.batches(size)]


def tokens_at_once(
    model: FoldedModel, jobs: AblationJobs, length: int, room: int, reserve: int = 0, units: bool = False
) -> int:
    """Ablated tokens of a batch: as many as make all products large, or fewer if `room` bytes hold no more.

    Args:
        jobs: all that are to be ablated.
        length: positions of a row.
        reserve: bytes of what is kept from batch to batch.
        units: whether units are ablated, of which what they write is kept, not z.

    Raises:
        ValueError: there is no room for a single job; says how much is needed.
    """
    chunk = chunk_tokens(model)
    # Of a row, and of the row that its replacements come from.
    clean_row = 2 * length * _activations(model)
    clean_rows_per_token = len(jobs.row.unique()) / max(1, jobs.n_tokens)
    fixed = chunk * _activations(model) + clean_row + reserve
    own = model.d_model if units else model.d_head
    token = _size(model) * (model.d_model + own + 6 * model.n_layers + 40) + clean_row * clean_rows_per_token
    longest = int(jobs.length.max()) if len(jobs) else 0
    if MARGIN * room < fixed + longest * token:
        missing = (fixed + longest * token) / MARGIN - room
        raise ValueError(
            f"memory: {model.name} needs {missing / 1e6:,.0f} MB more for a single job than the {room / 1e6:,.0f} MB "
            "that are left beside its weights; raise `memory`, or free some"
        )
    return max(longest, min(CHUNKS_A_LAYER * chunk * model.n_layers, int((MARGIN * room - fixed) // token)))
