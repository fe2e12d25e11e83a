"""LightCL (Wang et al., ASP-DAC 2025): freeze what generalises, hold the feature patterns of what does not."""

from __future__ import annotations

from collections.abc import Hashable

from sparcl_lite import models
from sparcl_lite.config import RunConfig
from sparcl_lite.config.run import MIN_CHANNELS, UNFROZEN
from sparcl_lite.data.streams import Batch, Task, TaskStream
from sparcl_lite.late import Tensor, no_grad, torch
from sparcl_lite.masks import keep_top
from sparcl_lite.methods.base import Method
from sparcl_lite.methods.lightcl_settings import LightCLParameters
from sparcl_lite.registry import METHODS
from sparcl_lite.replay import Memory

AUTHORS_CHANNELS = 512  # of each map that their network holds


@METHODS.register("lightcl", label="LightCL", schema=3)
class LightCLMethod(Method):
    """L = CE(f(x), y) + beta [ (512 / C) sum_l sum_B |m_l (h_l(x') - h*_l(x'))|^2 + sum_B |f(x') - f*(x')|^2 ].

    C are the channels of the last stage, 512 in the authors' network: beta is their weight at any width. x' are the B
    reference samples of a task, augmented once; h_l the rectified maps of the last stage's trainable blocks; h*, f*
    what the network said of x' as the task began; m_l the channels that mattered to any earlier task: those of highest
    summed activation on one batch as it ended. The first task has the first term only. The trunk below is frozen by
    the run's `freeze`, so x' needs to pass it once a task: the same batch makes the same maps.
    """

    Parameters = LightCLParameters
    uses_buffer = True
    fills_each_step = False

    @classmethod
    def check(cls, config: RunConfig) -> None:
        """It is a ResNet; shares of pruned channels fit its stages, and leave enough of each."""
        if not isinstance(models.layout_of(config), models.ResNet):
            raise ValueError(f"network = {config.network!r}: 'lightcl' holds feature maps of a ResNet's last stage")
        super().check(config)
        settings = config.lightcl
        if not settings.prune:
            return
        stages = len(models.layout_of(config).widths)
        if len(settings.prune) != stages:
            raise ValueError(
                f"lightcl.prune has {len(settings.prune)} shares; allowed: one for each of {stages} stages"
            )
        if min(kept_channels(config)) < MIN_CHANNELS:
            raise ValueError(
                f"lightcl.prune leaves {min(kept_channels(config))} of a stage's channels; "
                f"allowed: {MIN_CHANNELS} or more"
            )

    @classmethod
    def derive(cls, config: RunConfig, whole: models.Network, seed: int) -> models.Network:
        """The registered network, or what is left of it when channels were pruned."""
        settings = config.lightcl
        if not settings.prune:
            return whole
        with models.seeded(seed):
            return models.pruned(whole, kept_channels(config), ranking=settings.ranking, groups=settings.groups)

    @classmethod
    def boundary(cls, config: RunConfig, task: int) -> str:
        """With `recover` the first task also trains the last of the frozen blocks."""
        boundary = super().boundary(config, task)
        if task or boundary == UNFROZEN or not (config.lightcl.prune and config.lightcl.recover):
            return boundary
        allowed = models.layout_of(config).boundaries
        return allowed[allowed.index(boundary) - 1]

    @classmethod
    def variant(cls, config: RunConfig, task: int) -> Hashable:
        """The boundary, and how the network is pruned."""
        return cls.boundary(config, task), kept_channels(config), config.lightcl.groups

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        self.settings, self.channels = self.config.lightcl, pattern_channels(self.config)
        widths = models.layout_of(self.config).widths  # before any pruning, as `channels`
        self.map_weight = AUTHORS_CHANNELS / widths[-1]
        self.masks: list[Tensor] = []  # by map: the channels (C,) of the pattern
        self.inputs: Tensor | None = None  # reference samples
        self.maps: Tensor | None = None  # what the frozen blocks make of them
        self.held: list[Tensor] = []  # h*, and at last f*

    def begin_task(self, task: Task, stream: TaskStream) -> None:
        """Choose the reference samples, and record what the network says of them."""
        if task.index == 0:
            return
        if self.settings.reference == "new":
            self.buffer.replace([self._drawn(task, stream, self.config.buffer_size)])
        self.inputs = self.augment(self.buffer.contents().images)
        self.network.train()
        with torch.no_grad(), models.frozen_statistics(self.network):
            self.maps = self.network.trunk(self.inputs)
            patterns, logits = self.network.patterns(self.maps)
        self.masks = self.masks[len(self.masks) - len(patterns) :]  # of the blocks that still train
        self.held = [*patterns, logits]

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """CE of the current batch, and how far the reference's patterns have moved."""
        change = self._change() if self.held else 0.0
        (logits,) = self.forward(batch, [])
        return self.current_loss(logits, batch) + self.config.beta * change, logits

    def _change(self) -> Tensor:
        maps = self.maps if self.settings.keep_trunk else self.network.trunk(self.inputs)
        patterns, logits = self.network.patterns(maps)
        *held, held_logits = self.held
        change = (logits - held_logits).square().sum() if self.settings.logits else logits.new_zeros(())
        for mask, now, then in zip(self.masks, patterns, held, strict=True):
            change = change + self.map_weight * (now[:, mask] - then[:, mask]).square().sum()
        return change

    def end_task(self, task: Task, stream: TaskStream) -> None:
        """Add the channels that matter to this task to the patterns."""
        chosen = self._random_channels() if self.settings.channels == "random" else self._active_channels(task, stream)
        self.masks = [old | new for old, new in zip(self.masks, chosen, strict=True)] if self.masks else chosen
        if self.settings.reference == "old":
            everything = self._drawn(task, stream, len(task.samples))
            self.buffer.add(everything.images, everything.labels, everything.logits)

    @no_grad
    def _active_channels(self, task: Task, stream: TaskStream) -> list[Tensor]:
        images = self._drawn(task, stream, self.config.batch_size).images
        self.network.train()
        with models.frozen_statistics(self.network):
            patterns, _ = self.network.patterns(self.network.trunk(self.augment(images)))
        return [most_active(maps, self.channels) for maps in patterns]

    def _random_channels(self) -> list[Tensor]:
        scores = [torch.rand(width, generator=self.buffer.generator) for width in self.network.pattern_widths]
        return [top(score.to(self.buffer.device), self.channels) for score in scores]

    def _drawn(self, task: Task, stream: TaskStream, count: int) -> Memory:
        """Up to so many samples of the task, at random; no logits are remembered."""
        chosen = task.samples[torch.randperm(len(task.samples), generator=self.buffer.generator)[:count]]
        images, labels = stream.train.images[chosen], stream.train.labels[chosen]
        return Memory(images, labels, torch.zeros(len(labels), 0, device=labels.device))

    @classmethod
    def paper_units(cls, config: RunConfig, trained: float) -> float:
        """Batch and reference samples go forward, and backward where the network trains, in every task."""
        return (1 + config.buffer_size / config.batch_size) * (1 + 2 * trained)

    def report(self) -> dict:
        """Share of each map's channels that the patterns of all tasks hold together."""
        return {"pattern_density": [round(float(mask.float().mean()), 6) for mask in self.masks]}

    def state_dict(self) -> dict:
        """Patterns, reference samples and what is held of them."""
        return {name: getattr(self, name) for name in ("masks", "inputs", "maps", "held")}

    def load_state_dict(self, state: dict) -> None:
        """Take over a state of `state_dict`."""
        for name, value in state.items():
            setattr(self, name, value)


def kept_channels(config: RunConfig) -> tuple[int, ...]:
    """Channels that pruning leaves in each stage."""
    widths, settings = models.layout_of(config).widths, config.lightcl
    if not settings.prune:
        return widths
    shares = zip(widths, settings.prune, strict=True)
    return tuple(min(width, int(width * (1 - share) + 0.5) + settings.extra_channel) for width, share in shares)


def pattern_channels(config: RunConfig) -> int:
    """How many channels of each map a task adds: a share of the last stage's channels before any pruning.

    The authors' code keeps one more: its threshold is the largest value that should fall below it.
    """
    settings = config.lightcl
    return int(models.layout_of(config).widths[-1] * settings.ratio + 0.5) + settings.extra_channel


def most_active(maps: Tensor, count: int) -> Tensor:
    """Mask ``(C,)`` of the channels of maps ``(N, C, H, W)`` with the highest sums of |activation|."""
    return top(maps.abs().sum((0, 2, 3)), count)


def top(scores: Tensor, count: int) -> Tensor:
    """Mask of the highest scores (of all, where there are fewer)."""
    return keep_top(scores, torch.ones_like(scores, dtype=torch.bool), count)
