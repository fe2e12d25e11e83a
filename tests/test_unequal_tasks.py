"""Tasks of 4, 3 and 3 classes: every method and strategy trains on them, and what a run will cost is known before."""

import numpy as np
import pytest

from sparcl_lite.cli.options import fields_from
from sparcl_lite.config import RunConfig
from sparcl_lite.data.sources import load
from sparcl_lite.data.streams import TaskStream
from sparcl_lite.measure.flops import paper_flops
from sparcl_lite.planning import planned, training_memory
from sparcl_lite.registry import METHODS
from sparcl_lite.rng import Generators
from sparcl_lite.sparsity import RigL, SparCL, StaticMask
from sparcl_lite.sparsity.rigl import schedule_at
from sparcl_lite.training import Trainer

DIGITS = load("digits")
TINY = {"profile": "smoke", "images_per_class": 10, "epochs": 1, "buffer_size": 20}
PRETRAINED = {"pretraining": "disjoint", "pretraining_classes": 3, "pretraining_epochs": 1}
CASES = {name: {"method": name} for name in METHODS} | {
    "sparcl": {"sparse": SparCL(), "epochs": 5},
    "rigl": {"sparse": RigL(interval=2, schedule="run"), "epochs": 3},
    "snip": {"method": "icarl", "sparse": StaticMask(kind="snip")},
    "old": {"method": "lightcl", "buffer_size": 60, "lightcl": {"reference": "old"}},
    "pretrained": {"method": "lightcl", "tasks": [4, 1, 2], **PRETRAINED},
}


def config_of(**values):
    return RunConfig(**TINY | {"tasks": [4, 3, 3]} | values)


@pytest.mark.parametrize("case", CASES)
def test_a_run_of_unequal_tasks_costs_what_was_planned(case):
    config, steps = config_of(**CASES[case]), []
    trainer = Trainer(config, DIGITS, on_step=lambda: steps.append(1))
    trainer.run()
    assert [len(task.classes) for task in trainer.stream.tasks] == list(config.task_classes)
    assert len(steps) == planned(config).steps
    assert trainer.ledger.by_part() == pytest.approx(planned(config).ledger.by_part(), rel=1e-3)  # masks round
    known = np.tri(3, dtype=bool) if len(trainer.phases) > 1 else np.arange(3)[:, None] == [2, 2, 2]
    assert (np.isfinite(trainer.task_il) == known).all()
    assert training_memory(config)["weights"] > 0
    assert paper_flops(config) > 0


@pytest.mark.parametrize("order", ["native", "shuffled"])
def test_the_stream_has_the_classes_asked_for(order):
    config = config_of(class_order=order, method="sgd")
    tasks = TaskStream(config, DIGITS, Generators(0)).tasks
    assert [len(task.samples) for task in tasks] == [40, 30, 30]
    assert sorted(label for task in tasks for label in task.classes.tolist()) == list(range(10))
    if order == "native":
        assert [task.classes.tolist() for task in tasks] == [[0, 1, 2, 3], [4, 5, 6], [7, 8, 9]]


def test_a_list_a_tuple_an_array_and_a_command_line_say_the_same():
    keys = {config_of(tasks=given).key for given in ([4, 3, 3], (4, 3, 3), np.array([4, 3, 3]), "4,3,3")}
    keys |= {_from_command_line(given).key for given in ("tasks=4,3,3", "tasks=[4, 3, 3]")}
    assert keys == {config_of().key}
    assert RunConfig.model_validate_json(config_of().model_dump_json()) == config_of()
    assert config_of(tasks=[3, 4, 3]).key != config_of().key


def _from_command_line(text):
    settings = ["images_per_class=10", "epochs=1", text]
    return RunConfig(**fields_from("smoke", None, "der++", None, None, 20, "paper", settings))


def test_equal_tasks_keep_the_key_of_their_number():
    assert RunConfig(tasks=[2, 2, 2, 2, 2]).key == RunConfig(tasks=5).key == RunConfig().key
    assert RunConfig(tasks=[10]).tasks == 1


def test_rigls_schedule_over_the_run_gives_each_class_as_many_steps():
    config = config_of(sparse=RigL(schedule="run"))
    assert [schedule_at(config, task, 100 * count) for task, count in enumerate((4, 3, 3))] == [
        (0, 1000),
        (400, 1000),
        (700, 1000),
    ]
