"""Which heads are ablated in which rows, and how such jobs lie side by side in memory."""

from collections.abc import Iterator
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

ROUNDED = 8  # lengths are rounded up to a multiple, so that jobs of equal length attend together


@dataclass(frozen=True)
class AblationJobs:
    """Ablation jobs: a head, a row, and how many positions of it are computed. On the CPU, as they steer the work.

    The tokens of all jobs lie one after the other, without padding; `token` axes below are of them.

    Attributes:
        layer, head: of the head that is ablated.
        row: row in which it is.
        length: positions computed, from the first; later ones cannot act on them.
    """

    layer: Int[Tensor, " job"]
    head: Int[Tensor, " job"]
    row: Int[Tensor, " job"]
    length: Int[Tensor, " job"]

    @staticmethod
    def all_pairs(heads: list[tuple[int, int]], rows: Int[Tensor, " row"], length: int) -> "AblationJobs":
        """All heads in all rows, over the whole length."""
        place = torch.tensor(heads).view(-1, 2).repeat_interleave(len(rows), 0)
        layer, head = place.T
        return AblationJobs(layer, head, rows.repeat(len(heads)), torch.full((len(place),), length))

    @staticmethod
    def covering(
        wanted: Bool[Tensor, "head row pos"], heads: list[tuple[int, int]], rows: Int[Tensor, " row"]
    ) -> "AblationJobs":
        """Each head in each row that holds a wanted token of it, cut after the last of them."""
        n_pos = wanted.shape[-1]
        last = (wanted * torch.arange(1, n_pos + 1)).amax(-1)
        job, row = last.nonzero(as_tuple=True)
        length = (-(-last[job, row] // ROUNDED) * ROUNDED).clamp(max=n_pos)
        layer, head = torch.tensor(heads).view(-1, 2)[job].T
        return AblationJobs(layer, head, rows[row], length)

    def __len__(self) -> int:
        return len(self.layer)

    def __getitem__(self, which: slice | Tensor) -> "AblationJobs":
        return AblationJobs(*(getattr(self, field.name)[which] for field in fields(self)))

    def ordered(self) -> "AblationJobs":
        """In the order of a sweep: by layer, within it by length, and of equal length by head."""
        keys = (self.row, self.head, self.length, self.layer)
        order = torch.arange(len(self))
        for key in keys:
            order = order[key[order].argsort(stable=True)]
        return self[order]

    @property
    def n_tokens(self) -> int:
        return int(self.length.sum())

    def block_passes(self, n_layers: int) -> int:
        """How often a token passes a block of the model in a sweep: what the sweep takes in time, and counts in."""
        return int((self.length * (n_layers - self.layer)).sum())

    def per_token(self, values: Shaped[Tensor, " job"]) -> Shaped[Tensor, " token"]:
        """One value per token from one per job, on the device of `values`."""
        return values.repeat_interleave(self.length.to(values.device), output_size=self.n_tokens)

    def by_head(self, device: torch.device) -> list[tuple[int, slice | Int[Tensor, " _"]]]:
        """The heads, and for each where its tokens are: a slice if they lie together, else indices on the device."""
        heads, counts = self.head.unique_consecutive(return_counts=True)
        if len(heads) == len(heads.unique()):
            ends = self.length.cumsum(0)[counts.cumsum(0) - 1].tolist()
            return [(of, slice(*at)) for of, *at in zip(heads.tolist(), [0, *ends], ends, strict=False)]
        head = self.per_token(self.head)
        return [(of, sent((head == of).nonzero()[:, 0], device)) for of in heads.unique().tolist()]

    def heads_among(self, heads: list[tuple[int, int]]) -> Int[Tensor, " job"]:
        """Which of the heads each job ablates, by its place in the list."""
        place = {head: index for index, head in enumerate(heads)}
        pairs = zip(self.layer.tolist(), self.head.tolist(), strict=True)
        return torch.tensor([place[pair] for pair in pairs], dtype=torch.long)

    @property
    def pos(self) -> Int[Tensor, " token"]:
        """Position of each token in its row."""
        return torch.arange(self.n_tokens) - self.per_token(self.length.cumsum(0) - self.length)

    def chunks(self, size: int) -> Iterator[tuple["AblationJobs", slice]]:
        """Cut into parts of about `size` tokens, at least a job each; yield each with the place of its tokens."""
        ends = self.length.cumsum(0)
        first, token = 0, 0
        while first < len(self):
            last = max(first + 1, int(torch.searchsorted(ends, token + size, right=True)))
            end = int(ends[last - 1])
            yield self[first:last], slice(token, end)
            first, token = last, end

    def batches(self, size: int) -> Iterator["AblationJobs"]:
        """Divide by rows into parts of at most `size` tokens; a row that holds more is divided by heads.

        Raises:
            ValueError: a single job is longer than `size`.
        """
        by_row = self[self.row.argsort(stable=True)]
        if len(self) and size < int(self.length.max()):
            raise ValueError(f"a job of {int(self.length.max())} tokens does not fit into a batch of {size}")
        ends = by_row.length.cumsum(0)
        # After which job a batch may end: the last of a row.
        closes = torch.cat([by_row.row[1:] != by_row.row[:-1], torch.ones(min(1, len(self)), dtype=torch.bool)])
        first, done = 0, 0
        while first < len(by_row):
            last = int(torch.searchsorted(ends, done + size, right=True))
            whole = closes[first:last].nonzero().flatten()
            last = first + int(whole[-1]) + 1 if len(whole) else last
            yield by_row[first:last]
            first, done = last, int(ends[last - 1])


def within(tokens: Int[Tensor, " wanted"], at: slice) -> slice:
    """Which of ascending places of tokens lie in a slice of all."""
    first, last = torch.searchsorted(tokens, torch.tensor([at.start, at.stop])).tolist()
    return slice(first, last)


def sent(values: Shaped[Tensor, "*shape"], device: torch.device) -> Shaped[Tensor, "*shape"]:
    """Copy from the CPU to the device; on a GPU without waiting until it has done what it was asked before."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)


def carried_rows(
    rows: Int[Tensor, " row"], sources: Int[Tensor, " row"]
) -> tuple[Int[Tensor, " row_all"], Int[Tensor, " row"]]:
    """The rows that must be computed clean: those wanted, then those of their sources that are not among them.

    Returns:
        the rows, and for each wanted row where among them its source is.
    """
    present = torch.cat([rows, sources[~torch.isin(sources, rows)].unique()])
    order = present.argsort()
    return present, order[torch.searchsorted(present[order], sources)]
