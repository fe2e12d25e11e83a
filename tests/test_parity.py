"""The official variant over the script's own 50 epochs shows what was recorded of the authors' code."""

import pytest

from sparcl_lite.config import RunConfig
from sparcl_lite.data.sources import load
from sparcl_lite.sparsity import SparCL
from sparcl_lite.sparsity.dgm import DGM
from sparcl_lite.training import Trainer


@pytest.mark.slow
def test_densities_removals_and_refreshes_of_a_task_are_those_recorded(monkeypatch):
    sparse = SparCL(variant="official", sparsity=0.75)
    small = {"width": 8, "batch_size": 8, "images_per_class": 128, "replay_batch_size": 8}
    config = RunConfig(profile="lite", method="der++", sparse=sparse, epochs=50, **small)
    trainer = Trainer(config, load("fashion-mnist"))
    refreshes, original = [], DGM.refresh

    def watched(self, *arguments):
        refreshes.append(len(trainer.trace))  # the epoch
        return original(self, *arguments)

    monkeypatch.setattr(DGM, "refresh", watched)

    def after_the_first_task(t):
        if t.position == (0, 50):
            raise StopIteration

    trainer.on_epoch = after_the_first_task
    with pytest.raises(StopIteration):
        trainer.run()
    trace = {row["epoch"]: row for row in trainer.trace}
    density = [trace[epoch]["weight_density"] for epoch in range(50)]
    assert density[:5] == pytest.approx([0.26] * 5, abs=5e-4)  # the first task counts as expanded
    assert density[5:45] == pytest.approx([0.25] * 40, abs=5e-4)
    assert density[45:] == [density[45]] * 5  # frozen
    assert density[45] == pytest.approx(0.248, abs=2e-3)  # what never left zero is lost
    assert [trace[epoch]["gradient_density"] for epoch in range(50)] == pytest.approx([0.20] * 50, abs=1e-3)
    removed = int(0.075 * 256)  # 7.5 % at each of epochs 5, 10, 15, 20
    assert [trace[epoch]["samples"] for epoch in range(50)] == [256 - removed * min(e // 5, 4) for e in range(50)]
    # Every 30 steps of an epoch: at step 0 of all 50, and at step 30 of the five that still have 32 steps.
    assert refreshes == sorted([*range(50), *range(5)])
