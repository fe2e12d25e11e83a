"""PackNet (Mallya and Lazebnik, CVPR 2018): every task owns a share of the weights. Needs the task at test time."""

from __future__ import annotations

from pydantic import Field

from sparcl_lite.config import Parameters, RunConfig
from sparcl_lite.data.streams import Batch, Task, TaskStream
from sparcl_lite.late import Tensor, nn, no_grad, torch
from sparcl_lite.losses import cross_entropy
from sparcl_lite.masks import keep_top
from sparcl_lite.methods.base import Method
from sparcl_lite.registry import METHODS

FREE = -1  # owner of a weight that no task has kept yet
RETRAINED = 1 / 3  # last share of a task's epochs, after pruning (the paper trains 2 parts and retrains 1)


@METHODS.register("packnet", label="PackNet")
class PackNet(Method):
    """Train all free weights, keep the largest 1/T of each convolution for the task, retrain these, freeze them.

    Weights of earlier tasks take part in the forward pass and never change; the loss sees the task's own classes. Tasks
    get equal shares, as the FLOPs printed in the SparCL paper imply. Batch norm goes on training and each task is
    evaluated with its own: the PackNet paper freezes that of a network trained before, which there is none of here.
    """

    task_aware = True
    no_sparsity = "has masks of its own"

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        self.owner = {n: torch.full_like(p, FREE, dtype=torch.int8) for n, p in self.packed.items()}
        norms = {n for n, m in self.network.named_modules() if isinstance(m, nn.BatchNorm2d)}
        self.norm_names = [n for n in self.network.state_dict() if n.rpartition(".")[0] in norms]
        self.norms: list[dict[str, Tensor]] = []  # by task: batch norm's weights and statistics
        self.current = 0
        self.pruned = False  # whether the current task has chosen its weights

    @property
    def packed(self) -> dict[str, nn.Parameter]:
        """Weights of the convolutions that tasks share out; frozen ones serve every task whole."""
        return {n: p for n, p in self.network.named_parameters() if p.dim() == 4 and p.requires_grad}

    def begin_task(self, task: Task, stream: TaskStream) -> None:
        """All weights that no task owns may be trained."""
        self.current, self.pruned = task.index, False

    def begin_epoch(self, task: Task, epoch: int) -> None:
        """Prune when the last third of the epochs begins."""
        if epoch == prune_epoch(self.config.epochs):
            self._prune()

    @no_grad
    def _prune(self) -> None:
        for name, weight in self.packed.items():
            owner = self.owner[name]
            keep = keep_top(weight.abs(), owner == FREE, weight.numel() // self.config.task_count)
            owner[keep] = self.current
            weight[owner == FREE] = 0
        self.pruned = True

    def end_task(self, task: Task, stream: TaskStream) -> None:
        """Prune at last where there were too few epochs to retrain; keep the task's batch norm."""
        if not self.pruned:
            self._prune()
        state = self.network.state_dict()
        self.norms.append({name: state[name].clone() for name in self.norm_names})

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """CE over the task's own classes."""
        (logits,) = self.forward(batch, [])
        return cross_entropy(logits, batch.labels, batch.task.classes), logits

    def correct_gradients(self, batch: Batch) -> None:
        """Only convolution weights of this task (before pruning: all free ones) are updated."""
        for name, weight in self.packed.items():
            weight.grad[self.owner[name] != (self.current if self.pruned else FREE)] = 0

    def weights_of(self, task: Task) -> dict[str, Tensor]:
        """The convolutions that a task is evaluated with: its own weights and those of earlier tasks."""
        return {
            name: weight * ((self.owner[name] != FREE) & (self.owner[name] <= task.index))
            for name, weight in self.packed.items()
        }

    def predict(self, inputs: Tensor, task: Task | None = None) -> Tensor:
        """Logits ``(N, classes)`` of the task's own network."""
        own = self.weights_of(task) | self.norms[task.index]
        return torch.func.functional_call(self.network, own, (inputs,))

    @classmethod
    def paper_units(cls, config: RunConfig, trained: float) -> float:
        """Task t (from 1) trains t / T of the weights: (T + 1) / 2T of them on average, where tasks are equal."""
        shares = sum(t * classes for t, classes in enumerate(config.task_classes, 1))
        return cls.forward_units * shares / (config.task_count * config.classes)

    def state_dict(self) -> dict:
        """Who owns which weight."""
        return {"owner": self.owner, "norms": self.norms, "current": self.current, "pruned": self.pruned}

    def load_state_dict(self, state: dict) -> None:
        """Take over a state of `state_dict`."""
        self.owner, self.norms = state["owner"], list(state["norms"])
        self.current, self.pruned = state["current"], state["pruned"]


class LPSParameters(Parameters):
    """Weight of ADMM's term."""

    penalty: float = Field(0.0, ge=0, description="weight of ADMM's penalty")


@METHODS.register("lps", label="LPS")
class LPS(PackNet):
    """Learn-Prune-Share (Wang et al., ICDM 2020): PackNet that prunes by ADMM and chooses what to reuse.

    Learn: L = CE + penalty / 2 |W - Z + U|^2 over the free weights, where once an epoch Z <- the largest 1/T of W + U
    and U <- U + W - Z. Prune: keep what is largest then. Share: a mask over the weights of earlier tasks, learned by
    the straight-through estimator, says which of them this task uses. The paper's own settings are not known to us.
    """

    Parameters = LPSParameters
    SCORE, THRESHOLD, SCORE_LR = 0.01, 0.005, 1e-4  # of the mask's real-valued scores (Mallya et al., ECCV 2018)

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        self.z: dict[str, Tensor] = {}
        self.u: dict[str, Tensor] = {}
        self.used: list[dict[str, Tensor]] = []  # by task: which weights it is evaluated with
        self.kept = {n: p.detach().clone() for n, p in self.packed.items()}  # weights, unmasked
        self._new_scores()

    def _new_scores(self) -> None:
        self._take_scores({n: torch.full_like(p, self.SCORE) for n, p in self.packed.items()})

    def _take_scores(self, scores: dict[str, Tensor]) -> None:
        self.scores = {name: score.detach().requires_grad_() for name, score in scores.items()}
        self.optimizer = torch.optim.Adam(self.scores.values(), lr=self.SCORE_LR)

    def begin_task(self, task: Task, stream: TaskStream) -> None:
        """Use all earlier weights at first."""
        super().begin_task(task, stream)
        self.kept = {n: p.detach().clone() for n, p in self.packed.items()}
        self.z, self.u = {}, {n: torch.zeros_like(p) for n, p in self.packed.items()}
        self._new_scores()

    @no_grad
    def begin_epoch(self, task: Task, epoch: int) -> None:
        """ADMM's two updates, once an epoch until the task prunes."""
        if epoch < prune_epoch(self.config.epochs):
            for name, weight in self.packed.items():
                target = weight + self.u[name]
                keep = keep_top(target.abs(), self.owner[name] == FREE, weight.numel() // self.config.task_count)
                self.z[name] = target * keep
                self.u[name] += weight - self.z[name]
        super().begin_epoch(task, epoch)

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """CE, and until pruning the distance of the free weights to their sparse copy."""
        loss, logits = super().loss(batch)
        if not self.pruned:
            for name, weight in self.packed.items():
                gap = (weight - self.z[name] + self.u[name]) * (self.owner[name] == FREE)
                loss = loss + self.config.penalty / 2 * (gap**2).sum()
        return loss, logits

    def correct_gradients(self, batch: Batch) -> None:
        """Update the mask over earlier weights, then the gradients as in PackNet."""
        if self.current:
            for name, weight in self.packed.items():
                self.scores[name].grad = weight.grad * self.kept[name] * self._earlier(name)
            self.optimizer.step()
            self._mask_earlier()
        super().correct_gradients(batch)

    def _earlier(self, name: str) -> Tensor:
        owner = self.owner[name]
        return (owner != FREE) & (owner < self.current)

    @no_grad
    def _mask_earlier(self) -> None:
        for name, weight in self.packed.items():
            selected = self.kept[name] * (self.scores[name] > self.THRESHOLD)
            weight.copy_(torch.where(self._earlier(name), selected, weight))

    @no_grad
    def end_task(self, task: Task, stream: TaskStream) -> None:
        """Note which weights the task uses, and put the earlier ones back."""
        super().end_task(task, stream)
        used = {}
        for name, weight in self.packed.items():
            earlier = self._earlier(name)
            used[name] = (self.owner[name] == self.current) | (earlier & (self.scores[name] > self.THRESHOLD))
            weight.copy_(torch.where(earlier, self.kept[name], weight))
        self.used.append(used)

    def weights_of(self, task: Task) -> dict[str, Tensor]:
        """The task's own weights and those that it shares."""
        return {name: weight * self.used[task.index][name] for name, weight in self.packed.items()}

    def state_dict(self) -> dict:
        """Owners, ADMM's variables and the masks."""
        names = ("z", "u", "used", "kept")
        more = {"scores": {n: s.detach() for n, s in self.scores.items()}, "optimizer": self.optimizer.state_dict()}
        return super().state_dict() | {name: getattr(self, name) for name in names} | more

    def load_state_dict(self, state: dict) -> None:
        """Take over a state of `state_dict`."""
        super().load_state_dict(state)
        self.z, self.u, self.used, self.kept = (state[name] for name in ("z", "u", "used", "kept"))
        self._take_scores(state["scores"])
        self.optimizer.load_state_dict(state["optimizer"])


def prune_epoch(epochs: int) -> int:
    """The epoch of a task before which it prunes: 2/3 of them (always at least one epoch before, none after it: 1)."""
    return max(1, round((1 - RETRAINED) * epochs))
