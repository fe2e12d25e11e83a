"""What every sparse-training strategy is: the hooks that the training loop calls. The base trains everything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

from sparcl_lite import masks
from sparcl_lite.config import RunConfig
from sparcl_lite.data.streams import Batch, Task
from sparcl_lite.late import Tensor, nn, no_grad
from sparcl_lite.rng import Generators
from sparcl_lite.sparsity.importance import Probe
from sparcl_lite.sparsity.record import MaskRecord

Densities = dict[str, float]  # by the name of a prunable weight; a missing name is dense


class Strategy:
    """Dense training: all weights, all data, all gradients.

    `samples` is the size of the training split that positions refer to.

    Attributes
    ----------
    weight_density, gradient_density : current share of nonzero weights, and of weight gradients computed, by layer
    observes : whether `observe` matters to it
    reads_gradients : whether it uses the `grad` of masked weights, beyond masking it; True is always right
    """

    observes = True
    reads_gradients = True

    @classmethod
    def check(cls, config: RunConfig) -> None:
        """Raise ValueError, in one line, where the run's fields do not go with the strategy."""

    def __init__(self, config: RunConfig, network: nn.Module, rng: Generators, samples: int):
        self.config, self.network, self.rng = config, network, rng
        self.weights = masks.prunable_weights(network)
        self.weight_density: Densities = dict.fromkeys(self.weights, 1.0)
        self.gradient_density: Densities = dict.fromkeys(self.weights, 1.0)
        self.clock: Counter[str] = Counter()  # of steps, where a schedule counts them
        self.active: Tensor | None = None  # positions of the current task's samples still trained on

    @property
    def existing(self) -> dict[str, Tensor]:
        """Masks of the weights that exist, by layer; a missing layer has all of them."""
        return {}

    @property
    def wanted(self) -> dict[str, Tensor] | None:
        """Masks of the weights whose gradient the next backward pass has to find, by layer.

        A missing layer needs those of all weights that exist; None: of all weights, also of those that do not, which is
        always right.
        """
        return None

    def kind(self, step: int) -> Hashable:
        """What tells the steps of an epoch apart that cost different amounts; `step` is the next one."""
        return None

    def resize(self, samples: int) -> None:
        """Positions refer to a training split of so many samples from now on."""

    def begin_task(self, task: Task) -> None:
        """Before the first epoch of a phase."""
        self.active = task.samples

    def begin_epoch(self, task: Task, epoch: int, probe: Probe) -> Tensor:
        """Adjust what is trained; returns the positions of the samples that this epoch presents."""
        return self.active

    def observe(self, batch: Batch, logits: Tensor) -> None:
        """After each step: the current batch and its logits ``(n, classes)``."""

    def edit_gradients(self, step: int, probe: Probe) -> Densities:
        """Between backward and update, `step` of the epoch; returns the weight gradients' density it needed."""
        return self.gradient_density

    def mask_gradients(self, masks_: dict[str, Tensor], *, more: bool = False) -> None:
        """Set gradients outside `masks_` to zero; an exact engine has found none there, unless `more` were wanted."""
        engine = getattr(self.network, "engine", None)
        if more or engine is None or not engine.exact:
            for name, weight in self.weights.items():
                if weight.grad is not None:  # else the engine has it
                    weight.grad.mul_(masks_[name])
            if engine:
                engine.keep(masks_)

    def end_task(self, task: Task) -> None:
        """After the last epoch of a phase."""

    def report(self) -> dict:
        """What a finished run should remember of its masks and data, as JSON values."""
        return {}

    def state_dict(self) -> dict:
        """What a resumed run needs."""
        return {"active": self.active}

    def load_state_dict(self, state: dict) -> None:
        """Take over a state of `state_dict`."""
        self.active = state["active"]


class MaskedStrategy(Strategy):
    """Weights and their gradients outside `masks` (by layer; none at first) are zero."""

    def __init__(self, config: RunConfig, network: nn.Module, rng: Generators, samples: int):
        super().__init__(config, network, rng, samples)
        self.masks: dict[str, Tensor] = {}
        self.record = MaskRecord()

    @property
    def existing(self) -> dict[str, Tensor]:
        """The masks."""
        return self.masks

    @no_grad
    def set_masks(self, masks_: dict[str, Tensor]) -> None:
        """Take these masks, and set every weight outside them to zero; frozen weights keep the masks that they have."""
        trainable = masks.trainable(self.weights)
        kept = {name: mask for name, mask in self.masks.items() if name not in trainable}
        if not self.masks:
            self.record.take(masks_)
        self.masks = masks_ | kept
        for name, weight in self.weights.items():
            weight.mul_(self.masks[name])
        self.weight_density = self.gradient_density = {n: masks.density(m) for n, m in self.masks.items()}

    def edit_gradients(self, step: int, probe: Probe) -> Densities:
        """Mask the gradients."""
        self.mask_gradients(self.masks)
        return self.gradient_density

    def end_task(self, task: Task) -> None:
        """Remember the masks that the task ends with."""
        self.record.take(self.masks)

    def report(self) -> dict:
        """Survival of the masks: the first ones, then those after each task."""
        return {"weight_survival": self.record.survival()}

    def state_dict(self) -> dict:
        """The masks."""
        return super().state_dict() | {"masks": self.masks, "record": self.record.moments}

    def load_state_dict(self, state: dict) -> None:
        """Take over a state of `state_dict`."""
        super().load_state_dict(state)
        self.record.moments, self.masks = list(state["record"]), state["masks"]
        self.set_masks(self.masks)
