"""Dynamic data removal (SparCL, section 3.2 and Eq. 2): which samples of the current task are still trained on."""

from __future__ import annotations

from sparcl_lite.late import Tensor, torch
from sparcl_lite.sparsity.schedule import removal_epochs, removed_per_stage, uncounted_epochs
from sparcl_lite.sparsity.settings import SparCL

NEVER_CORRECT = 50  # the official code's forgetting score of a sample that was wrong at every presentation
UNKNOWN = 2**15 - 1  # the score of a sample that the stage did not present: nothing says that it is easy

STAGE = ("seen", "wrong", "events", "last_correct", "seen_correct")  # statistics of the current stage
STATE = ("active", "task_size", "counts", *STAGE, "misclassified", "removed")


class DDR:
    """Removes, at the end of each stage up to the cut-off, the samples that were easiest during that stage.

    Easiness is the number of misclassifications in the stage (paper) or of forgetting events (official code). Samples
    that the stage did not present come last: nothing is known of them. The full set returns with the next task. For
    comparison, `removal_rule` makes it one removal at the cut-off, or a random one at each stage.

    Within a task's first passes most answers change from wrong to right, whatever the sample: there a misclassification
    tells when the sample came up, not how hard it is. `uncounted` leaves that share of the task's epochs out.
    """

    def __init__(self, sparse: SparCL, total: int, generator: torch.Generator, device: torch.device | str):
        self.sparse, self.generator = sparse, generator
        self.active = torch.empty(0, dtype=torch.long, device=device)
        self.task_size = 0
        self.counts = True  # whether this epoch's answers count
        self.resize(total)
        self.removed: list[list[list[int]]] = []  # positions by task and stage

    def resize(self, samples: int) -> None:
        """Forget all statistics, and make room for those of so many samples."""
        device = self.active.device
        self.seen = torch.zeros(samples, dtype=torch.bool, device=device)  # this stage, like the next four
        self.wrong = torch.zeros(samples, dtype=torch.int16, device=device)  # misclassifications
        self.events = torch.zeros_like(self.wrong)  # correct -> wrong transitions
        self.last_correct = torch.zeros_like(self.seen)
        self.seen_correct = torch.zeros_like(self.seen)
        self.misclassified = torch.zeros(samples, dtype=torch.int32, device=device)  # in the whole run

    def begin_task(self, samples: Tensor) -> None:
        """Start from all samples of the task."""
        self.active, self.task_size = samples, len(samples)
        self.removed.append([])
        self._reset()

    def observe(self, samples: Tensor, correct: Tensor) -> None:
        """Record whether each of the presented samples was classified correctly (all-class argmax)."""
        self.misclassified[samples] += (~correct).to(torch.int32)
        if not self.counts:
            return
        self.seen[samples] = True
        self.wrong[samples] += (~correct).to(torch.int16)
        self.events[samples] += (self.last_correct[samples] & ~correct).to(torch.int16)
        self.last_correct[samples] = correct
        self.seen_correct[samples] |= correct

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Remove the stage's share where a stage has just ended."""
        self.counts = epoch >= uncounted_epochs(self.sparse, epochs)
        if epoch not in removal_epochs(self.sparse, epochs):
            return
        count = removed_per_stage(self.sparse, self.task_size, epochs)
        order = self._order()
        self.removed[-1].append(self.active[order[:count]].tolist())
        self.active = self.active[order[count:]].sort().values
        self._reset()

    def difficulty(self) -> Tensor:
        """Score of each active sample; the lowest go first."""
        scores = self.wrong
        if self.sparse.difficulty == "forgetting":
            scores = torch.where(self.seen_correct, self.events, NEVER_CORRECT)
        return torch.where(self.seen, scores, UNKNOWN)[self.active]

    def _order(self) -> Tensor:
        scores = self.difficulty()
        if self.sparse.removal_rule == "random":
            scores = torch.zeros_like(scores)
        if self.sparse.ties == "index":
            return scores.argsort(stable=True)
        shuffled = torch.randperm(len(scores), generator=self.generator).to(scores.device)
        return shuffled[scores[shuffled].argsort(stable=True)]

    def _reset(self) -> None:
        for name in STAGE:
            getattr(self, name).zero_()

    def state_dict(self) -> dict:
        """What a resumed run needs."""
        return {name: getattr(self, name) for name in STATE}

    def load_state_dict(self, state: dict) -> None:
        """Take over a state of `state_dict`."""
        for name, value in state.items():
            setattr(self, name, value)
