"""When SparCL acts, in epochs of a task: pure functions of its fields (SparCL, Algorithm 1 and Eq. 2)."""

from sparcl_lite.config import Sparse


def stage_epochs(sparse: Sparse, epochs: int) -> int:
    """delta_k in epochs: the length of a stage."""
    return max(1, round(sparse.interval * epochs))


def mask_adjustment(sparse: Sparse, task: int, epoch: int, epochs: int) -> tuple[float, float] | None:
    """Sparsities to (prune to, grow to) before this epoch, or None when the mask stays.

    The task's first epoch expands (inter-task); at each stage the mask is pruned by p_intra and grown back
    (intra-task), the first of which also takes the expansion back.
    """
    if epoch % stage_epochs(sparse, epochs):
        return None
    s = sparse.sparsity
    if epoch == 0:
        return (s, s - sparse.p_inter) if task > 0 or sparse.expand_first_task else None
    if epoch >= round(sparse.freeze_from * epochs):
        return (s, s)
    return (s + sparse.p_intra, s)


def uncounted_epochs(sparse: Sparse, epochs: int) -> int:
    """Epochs at a task's start whose misclassifications DDR does not count."""
    return round(sparse.uncounted * epochs)


def removal_epochs(sparse: Sparse, epochs: int) -> list[int]:
    """Epochs before which DDR removes samples."""
    stage = stage_epochs(sparse, epochs)
    stages = [e for e in range(stage, epochs) if e % stage == 0 and e <= sparse.cutoff * epochs + 1e-9]
    return stages[-1:] if sparse.removal_rule == "one_shot" else stages


def removed_per_stage(sparse: Sparse, samples: int, epochs: int) -> int:
    """Samples that DDR removes at each of its stages: rho N / number of stages, rounded down."""
    stages = len(removal_epochs(sparse, epochs))
    return int(sparse.removal * samples / stages + 1e-9) if stages else 0


def samples_in_epoch(sparse: Sparse, samples: int, epoch: int, epochs: int) -> int:
    """Of so many samples of a task, those that remain in this epoch."""
    if not sparse.ddr:
        return samples
    done = sum(e <= epoch for e in removal_epochs(sparse, epochs))
    return samples - done * removed_per_stage(sparse, samples, epochs)


def data_fraction(sparse: Sparse, epochs: int) -> float:
    """Mean share of the data presented, over a task's epochs, without rounding to whole samples."""
    if not sparse.ddr:
        return 1.0
    removals = removal_epochs(sparse, epochs)
    share = [sum(e <= epoch for e in removals) / max(1, len(removals)) for epoch in range(epochs)]
    return 1 - sparse.removal * sum(share) / epochs
