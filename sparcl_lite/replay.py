"""The replay buffer: a reservoir of raw images with what a method wants remembered of them."""

from __future__ import annotations

from dataclasses import dataclass

from sparcl_lite.late import Tensor, torch


@dataclass(frozen=True)
class Memory:
    """Samples drawn from the buffer: raw uint8 images ``(n, C, H, W)``, labels ``(n,)``, logits ``(n, classes)``."""

    images: Tensor
    labels: Tensor
    logits: Tensor


class ReservoirBuffer:
    """A uniform sample of fixed capacity of everything ever offered (Vitter's algorithm R).

    One insertion attempt per presentation, as in the DER paper: images seen in several epochs are offered several
    times, so duplicates are possible.
    """

    def __init__(self, capacity: int, generator: torch.Generator, device: torch.device | str = "cpu"):
        self.capacity, self.generator, self.device = capacity, generator, device
        self.seen = 0
        self.images = self.labels = self.logits = None

    def __len__(self) -> int:
        return min(self.seen, self.capacity)

    def add(self, images: Tensor, labels: Tensor, logits: Tensor) -> None:
        """Offer a batch; the whole batch takes part in one vectorised step, in order."""
        if self.images is None:
            self._allocate(images, labels, logits)
        rank = torch.arange(self.seen, self.seen + len(images))
        drawn = (torch.rand(len(images), generator=self.generator, dtype=torch.float64) * (rank + 1)).long()
        slot = torch.where(rank < self.capacity, rank, drawn)
        self.seen += len(images)
        winner = {s: i for i, s in enumerate(slot.tolist()) if s < self.capacity}  # the later sample wins
        if winner:
            into = torch.tensor(list(winner), device=self.device)
            chosen = torch.tensor(list(winner.values()), device=self.device)
            for store, values in (
                (self.images, images),
                (self.labels, labels),
                (self.logits, logits),
            ):
                store[into] = values[chosen]

    def sample(self, size: int, generator: torch.Generator | None = None) -> Memory:
        """Up to `size` distinct entries, uniformly; drawn with the buffer's own generator unless another is given."""
        chosen = torch.randperm(len(self), generator=generator or self.generator)[:size].to(self.device)
        return Memory(self.images[chosen], self.labels[chosen], self.logits[chosen])

    def contents(self) -> Memory:
        """Every entry."""
        count = len(self)
        return Memory(self.images[:count], self.labels[:count], self.logits[:count])

    def replace(self, memories: list[Memory]) -> None:
        """Hold exactly these samples, in this order; they must fit."""
        columns = [torch.cat(parts) for parts in zip(*((m.images, m.labels, m.logits) for m in memories), strict=True)]
        self._allocate(*columns)
        self.seen = len(columns[0])
        for store, values in zip((self.images, self.labels, self.logits), columns, strict=True):
            store[: self.seen] = values

    def nbytes(self) -> int:
        """Bytes held."""
        if self.images is None:
            return 0
        return sum(t.numel() * t.element_size() for t in (self.images, self.labels, self.logits))

    def state_dict(self) -> dict:
        """Everything but the generator, which belongs to the run's bundle."""
        return {
            "seen": self.seen,
            "images": self.images,
            "labels": self.labels,
            "logits": self.logits,
        }

    def load_state_dict(self, state: dict) -> None:
        """Take over a state of `state_dict`. Raises ValueError where its arrays are not those of such a buffer."""
        arrays = state["images"], state["labels"], state["logits"]
        shapes = [() if array is None else tuple(array.shape) for array in arrays]
        if any(shapes) and [(len(shape), shape[:1]) for shape in shapes] != [(n, (self.capacity,)) for n in (4, 1, 2)]:
            raise ValueError(f"a buffer of {self.capacity} samples cannot have arrays of shapes {shapes}")
        self.seen, (self.images, self.labels, self.logits) = state["seen"], arrays

    def _allocate(self, *columns: Tensor) -> None:
        empty = [torch.zeros(self.capacity, *c.shape[1:], dtype=c.dtype, device=self.device) for c in columns]
        self.images, self.labels, self.logits = empty
