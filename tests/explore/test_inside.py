"""What `Inside` shows of a moment is what the run was at that moment."""

import numpy as np
import pytest

from sparcl_lite.config import RunConfig
from sparcl_lite.explore import inside_figures as draw
from sparcl_lite.explore.inside import PANELS, Inside, panel
from sparcl_lite.explore.moments import Moment, stream_of
from sparcl_lite.explore.train import Train
from sparcl_lite.runs.job import job_of
from sparcl_lite.runs.recording import Recorder, Recording
from sparcl_lite.runs.run import run
from sparcl_lite.runs.store import Store
from sparcl_lite.sparsity import SparCL

EPOCHS = 3


def tiny(**values):
    small = {"tasks": 2, "images_per_class": 20, "width": 8, "epochs": EPOCHS, "buffer_size": 20}
    return RunConfig(**({"profile": "smoke", "method": "der++"} | small | values))


CONFIG = tiny(sparse=SparCL(sparsity=0.5, interval=0.2, gradient_interval=3))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    made = Store(tmp_path_factory.mktemp("store"))
    run(job_of(CONFIG, watch=Recorder(made, CONFIG)), store=made)
    run(tiny(), store=made)
    run(tiny(method="joint", epochs=2), store=made)
    return made


@pytest.fixture(params=["recorded", "by its result"])
def at(request, store):
    """Makes the moment of a task and epoch, both counted from 0."""
    recording = Recording.of(store, CONFIG) if request.param == "recorded" else None
    return lambda task, epoch: Moment(CONFIG, store.get(CONFIG), recording, task, epoch)


def test_removed_images_are_those_of_the_stages_up_to_the_epoch(at, store):
    reported = store.get(CONFIG).sparse["removed"]
    assert at(1, 0).removed == []
    assert [set(stage) for stage in at(1, EPOCHS - 1).removed] == [set(stage) for stage in reported[1]]
    _, points = draw.removed(at(1, EPOCHS - 1))
    labels, names = stream_of(CONFIG).train.labels, stream_of(CONFIG).spec.classes
    assert points["class"].tolist() == [names[labels[sample]] for sample in points["sample"]]


def test_overlap_with_an_earlier_task_is_its_survival(at, store):
    layers = at(1, EPOCHS - 1).layers(0)
    survival = store.get(CONFIG).sparse["weight_survival"]
    assert layers["overlap"].tolist() == pytest.approx(
        [100 * survival[f"{n}.weight"][1][2] for n in layers["layer"]], abs=0.1
    )
    assert layers["density"].tolist() == pytest.approx([50] * len(layers), abs=1)
    assert at(0, 0).layers(0)["overlap"].isna().all()


def test_the_matrix_ends_with_the_task_of_the_moment(at, store):
    whole = store.get(CONFIG).matrix()
    np.testing.assert_allclose(at(1, EPOCHS - 1).matrix("class_il"), whole, atol=1e-3)
    first = at(0, EPOCHS - 1).matrix("class_il")
    assert first[0, 0] == pytest.approx(whole[0, 0], abs=1e-3)
    assert np.isnan(first[1]).all()
    assert np.isnan(at(1, 0).matrix("class_il")[1]).all() == (at(1, 0).recording is None)


def test_easiest_and_hardest_are_of_this_task_and_ranked(at):
    _, points = draw.extremes(at(1, EPOCHS - 1))
    counts = {what: part["misclassified"].tolist() for what, part in points.groupby("what")}
    assert counts["easiest"] == sorted(counts["easiest"])
    assert counts["hardest"] == sorted(counts["hardest"], reverse=True)
    names = [stream_of(CONFIG).spec.classes[c] for c in stream_of(CONFIG).tasks[1].classes]
    assert set(points["class"]) <= set(names)


def test_confusion_is_in_the_order_of_the_tasks_and_in_percent(store):
    recording = Recording.of(store, CONFIG)
    _, points = draw.confusion(Moment(CONFIG, None, recording, 1, EPOCHS - 1))
    order = [c for task in stream_of(CONFIG).tasks for c in task.classes.tolist()]
    names = [stream_of(CONFIG).spec.classes[c] for c in order]
    assert points["class"].drop_duplicates().tolist() == names
    assert points.groupby("class")["share"].sum().to_numpy() == pytest.approx([100] * 10)
    held = draw.buffer(Moment(CONFIG, None, recording, 0, EPOCHS - 1))[1]
    assert held["samples"].sum() == 20
    first = {stream_of(CONFIG).spec.classes[c] for c in stream_of(CONFIG).tasks[0].classes}
    assert set(held.loc[held["samples"] > 0, "class"]) <= first


@pytest.mark.parametrize("title", PANELS)
def test_every_panel_draws_or_says_why_not(title, store):
    for config in (CONFIG, tiny(), tiny(method="joint", epochs=2)):
        for recording in (None, Recording.of(store, config)):
            _, words = panel(title, Moment(config, store.get(config), recording, 0, 0))
            assert title in words
    dense = Moment(tiny(), store.get(tiny()), None, 1, 2)
    assert {"masks": "dense", "buffer": "press Record"}.get(title, "") in panel(title, dense)[1]


def test_sliders_move_through_the_run(store):
    view = Inside(Train(store, [tiny(), CONFIG], profile="smoke"))
    assert (view.run.value, view.task.value, view.epoch.value) == (CONFIG, 2, EPOCHS)
    assert view.record.disabled
    view.tabs.selected_index = list(PANELS).index("masks")
    assert list(dict(view.earlier.options)) == ["the end of task 1"]
    view.task.value, view.epoch.value = 1, 2
    assert "task 1, epoch 2" in view.pictures["masks"].value
    view.run.value = tiny()
    assert not view.record.disabled
    assert "dense" in view.still()[1]


@pytest.mark.slow
def test_record_trains_a_stored_run_once_more(store, wait):
    train = Train(store, [tiny()], profile="smoke")
    view, before = Inside(train), store.get(tiny())
    view.record.click()
    wait(lambda: "recorded after" in view.said.value)
    train.background.close()
    assert len(Recording.of(store, tiny())) == 2 * EPOCHS
    assert store.get(tiny()).accuracy_matrix == before.accuracy_matrix
