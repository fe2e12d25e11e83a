"""SparCL (Wang et al., NeurIPS 2022): TDM, DDR and DGM as one strategy, over any method."""

from __future__ import annotations

from collections.abc import Hashable

from sparcl_lite.config import RunConfig
from sparcl_lite.data.streams import Batch, Task
from sparcl_lite.late import Tensor, nn
from sparcl_lite.registry import STRATEGIES
from sparcl_lite.rng import Generators
from sparcl_lite.sparsity.base import Densities, Strategy
from sparcl_lite.sparsity.ddr import DDR
from sparcl_lite.sparsity.dgm import DGM
from sparcl_lite.sparsity.importance import Probe, Scores, combined
from sparcl_lite.sparsity.record import MaskRecord
from sparcl_lite.sparsity.settings import SparCL
from sparcl_lite.sparsity.tdm import TDM


@STRATEGIES.register("sparcl", label="SparCL", colour="#D55E00", config=SparCL, schema=3)
class SparCLStrategy(Strategy):
    """Each of the three parts can be absent; without TDM the network stays dense."""

    @classmethod
    def check(cls, config: RunConfig) -> None:
        """The run lasts until DDR's first removal."""
        if config.sparse.ddr and config.epochs * config.sparse.cutoff < 1:
            raise ValueError(f"epochs = {config.epochs} ends before the first removal of DDR; switch ddr off")

    def __init__(self, config: RunConfig, network: nn.Module, rng: Generators, samples: int):
        super().__init__(config, network, rng, samples)
        sparse, device = config.sparse, next(network.parameters()).device
        self.sparse = sparse
        self.tdm = TDM(sparse, self.weights, rng.mask) if sparse.tdm else None
        self.ddr = DDR(sparse, samples, rng.removal, device) if sparse.ddr else None
        self.dgm = DGM(sparse, self.weights) if sparse.dgm else None
        self.task: Task | None = None
        self.refreshed = -1  # the step of this epoch that DGM's mask is of
        self.probing = True  # the next backward passes measure importance
        self.norm_biases = [
            m.bias for m in network.modules() if isinstance(m, nn.BatchNorm2d) and sparse.freeze_bn_bias
        ]
        self.weight_record, self.gradient_record = MaskRecord(), MaskRecord()
        if self.tdm:
            self.weight_record.take(self.tdm.masks)
        self._masks_changed()

    @property
    def observes(self) -> bool:
        """Whether DDR counts misclassifications."""
        return self.ddr is not None

    @property
    def reads_gradients(self) -> bool:
        """Whether CWI or CGI is of the step's own gradient, as in the official code."""
        return "total" in (self.sparse.cwi_gradient, self.sparse.cgi_gradient)

    def kind(self, step: int) -> Hashable:
        """Whether DGM's mask is renewed."""
        return self.dgm is not None and self.dgm.due(step)

    @property
    def existing(self) -> dict[str, Tensor]:
        """TDM's masks."""
        return self.tdm.masks if self.tdm else {}

    @property
    def wanted(self) -> dict[str, Tensor] | None:
        """The gradients that DGM keeps; all of them where importance is measured next."""
        if self.probing:
            return None if self.sparse.growth == "gradient" else {}
        return self.dgm.masks if self.dgm else {}

    def resize(self, samples: int) -> None:
        """DDR's statistics are of another data set."""
        if self.ddr:
            self.ddr.resize(samples)

    def begin_task(self, task: Task) -> None:
        """All samples of the task are active again."""
        super().begin_task(task)
        if self.ddr:
            self.ddr.begin_task(task.samples)

    def end_task(self, task: Task) -> None:
        """Remember the masks that the task ends with."""
        if self.tdm:
            self.weight_record.take(self.tdm.masks)
        if self.dgm:
            self.gradient_record.take(self.dgm.masks)

    def report(self) -> dict:
        """Survival of weight masks (initial, then after each task) and of gradient masks (after each task); DDR's log.

        `removed` holds, by task and stage, the positions of the samples removed; `misclassified` how often each sample
        of the training split was misclassified in all.
        """
        report: dict = {}
        if self.tdm:
            report["weight_survival"] = self.weight_record.survival()
        if self.dgm:
            report["gradient_survival"] = self.gradient_record.survival()
        if self.ddr:
            report["removed"] = self.ddr.removed
            report["misclassified"] = self.ddr.misclassified.tolist()
        return report

    def begin_epoch(self, task: Task, epoch: int, probe: Probe) -> Tensor:
        """DDR removes samples, then TDM adjusts the mask."""
        self.task, self.refreshed, self.probing = task, -1, True
        if self.ddr:
            self.ddr.begin_epoch(epoch, self.config.epochs)
            self.active = self.ddr.active
        if self.tdm and self.tdm.adjust(
            task.index,
            epoch,
            self.config.epochs,
            lambda: self._gradients(self.sparse.cwi_gradient, probe),
        ):
            self._masks_changed()
        return self.active

    def observe(self, batch: Batch, logits: Tensor) -> None:
        """DDR counts which samples of the batch were misclassified."""
        if self.ddr:
            self.ddr.observe(batch.samples, logits.argmax(1) == batch.labels)

    def edit_gradients(self, step: int, probe: Probe) -> Densities:
        """Mask the gradients by DGM, or by TDM's mask alone."""
        needed = self.gradient_density
        if self.dgm and self.dgm.due(step) and step != self.refreshed:  # once, also where a step has two updates
            self.refreshed = step
            source = self.sparse.cgi_gradient
            self.dgm.refresh(self.tdm and self.tdm.masks, lambda: self._gradients(source, probe, batches=1))
            self.gradient_density = self.weight_density | self.dgm.densities()
            needed = self.weight_density if source == "total" else self.gradient_density
        active = self.dgm or self.tdm
        if active:
            self.mask_gradients(active.masks, more=self.probing or self.reads_gradients)
        for bias in self.norm_biases:
            bias.grad.zero_()
        self.probing = bool(self.dgm and self.dgm.due(step + 1))
        return needed

    def _gradients(self, source: str, probe: Probe, batches: int | None = None) -> Scores:
        """The gradient part of CWI and CGI."""
        if source == "total":  # of the last step's whole loss, as the official code has it: alpha = beta
            return {
                name: self.sparse.alpha * weight.grad.abs() if weight.grad is not None else weight.detach() * 0
                for name, weight in self.weights.items()
            }
        batches = batches or self.sparse.cwi_batches
        on_task = probe.task_gradient(self.weights, self.task, self.active, batches)
        on_buffer = probe.buffer_gradient(self.weights, batches)
        return combined(self.sparse.alpha, on_task, self.sparse.beta, on_buffer)

    def _masks_changed(self) -> None:
        if self.tdm:
            self.weight_density = self.tdm.densities()
        if not self.dgm:
            self.gradient_density = self.weight_density

    def state_dict(self) -> dict:
        """Masks, DDR's statistics and the last gradients."""
        gradients = {n: w.grad for n, w in self.weights.items() if self.sparse.cwi_gradient == "total"}
        return super().state_dict() | {
            "tdm": self.tdm and self.tdm.masks,
            "dgm": self.dgm and self.dgm.masks,
            "ddr": self.ddr and self.ddr.state_dict(),
            "gradients": gradients,
            "records": (self.weight_record.moments, self.gradient_record.moments),
        }

    def load_state_dict(self, state: dict) -> None:
        """Take over a state of `state_dict`."""
        super().load_state_dict(state)
        if self.tdm:
            self.tdm.masks = state["tdm"]
        if self.dgm:
            self.dgm.masks = state["dgm"]
            self.gradient_density = self.gradient_density | self.dgm.densities()
        if self.ddr:
            self.ddr.load_state_dict(state["ddr"])
        self.weight_record.moments, self.gradient_record.moments = map(list, state["records"])
        for name, gradient in state["gradients"].items():
            self.weights[name].grad = gradient
        self._masks_changed()
