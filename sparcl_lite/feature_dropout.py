"""CLFD's class-aware dropout of features over a run (Liu et al., NeurIPS 2024): which are kept, and when that changes.

Which of them the head sees is the business of `models.frequency`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from sparcl_lite.config import RunConfig
from sparcl_lite.data.streams import Batch, Task, TaskStream
from sparcl_lite.models.frequency import Selection, haar

CHUNK = 1000  # images that are transformed at once
PREFIX = 1.1  # times `kept`: features that the authors' code keeps in the first task


def frequency_keep(counts: Tensor, similarity: Tensor, mix: float, shift: float = 0.0) -> Tensor:
    """Pf ``(features,)``: features that dissimilar classes use are avoided, those of similar ones are shared.

    Pf = mix exp(-F[y-] / max F[y-] S / s[y-]) + (1 - mix) (1 - exp(-F[y+] / max F[y+] s[y+] / S)), with the counts F
    ``(classes, features)`` and the similarities s ``(classes,)`` of earlier classes, y- the least and y+ the most
    similar one, S the mean of s. Where cosines are negative the formula can give any number: what is above 1 is 1, and
    what is below 0 or undefined is 0.
    """
    s = similarity + shift
    least, most = (counts[place] / counts[place].max().clamp_min(1) for place in (s.argmin(), s.argmax()))
    avoided = torch.exp(-least * s.mean() / s.min())
    kept = mix * avoided + (1 - mix) * (1 - torch.exp(-most * s.max() / s.mean()))
    return kept.nan_to_num(0.0).clamp(0, 1)


def semantic_keep(counts: Tensor, strength: float) -> Tensor:
    """Ps = 1 - exp(-strength F[c] / max F[c]) ``(classes, features)``: a class goes on with what it has used."""
    return 1 - torch.exp(-strength * counts / counts.amax(1, keepdim=True).clamp_min(1))


def similarities(sums: Tensor, label: int, earlier: Tensor) -> Tensor:
    """Cosine of the summed low bands ``(classes, positions)`` of a class and of each earlier one."""
    return F.cosine_similarity(sums[label][None], sums[earlier])


class FeatureDropout:
    """Sets the keep probabilities of a `Selection`: frequency dropout at first, semantic dropout afterwards.

    It holds nothing: counts and sums are the selection's, so a run that is resumed goes on.
    """

    def __init__(self, config: RunConfig, selection: Selection, stream: TaskStream, generator: torch.Generator):
        self.clfd, self.warmup = config.clfd, config.clfd.warmup * config.epochs
        self.selection, self.stream, self.generator = selection, stream, generator

    def begin_task(self, task: Task) -> None:
        """Sum the low band of the task's training images, by class."""
        train = self.stream.train
        for chosen in task.samples.split(CHUNK):
            low = haar(self.stream.augment.normalise(train.images[chosen]))[0].flatten(1)
            self.selection.sums.index_add_(0, train.labels[chosen], low)

    def begin_epoch(self, task: Task, epoch: int) -> None:
        """Renew the probabilities of the task's classes."""
        for label in task.classes.tolist():
            self.selection.keep[label] = self._keep(task, label, epoch)

    def _keep(self, task: Task, label: int, epoch: int) -> Tensor:
        clfd, counts = self.clfd, self.selection.counts
        if epoch >= self.warmup:
            return semantic_keep(counts[label][None], clfd.strength)[0]
        if task.index == 0:
            return self._first()
        if epoch == 0 and clfd.dropout_from == "first_epoch":
            return torch.full_like(counts[label], clfd.kept)
        earlier = torch.cat([before.classes for before in self.stream.tasks[: task.index]])
        similarity = similarities(self.selection.sums, label, earlier)
        return frequency_keep(counts[earlier], similarity, clfd.mix, clfd.shift)

    def _first(self) -> Tensor:
        keep = torch.ones_like(self.selection.keep[0])
        if self.clfd.first_task == "prefix":
            keep[int(PREFIX * self.clfd.kept * len(keep)) :] = 0
        return keep

    def drawn(self, labels: Tensor) -> Tensor:
        """Features ``(n, features)`` kept of samples of these classes: one number a feature is drawn for the batch."""
        number = torch.rand(self.selection.keep.shape[1], generator=self.generator).to(labels.device)
        return number < self.selection.keep[labels]

    def begin_step(self, batch: Batch) -> None:
        """The next pass is one of this batch."""
        self.selection.expect(batch.labels, self.drawn(batch.labels))
