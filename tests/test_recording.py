"""A recorded run computes what it computes without a recorder, and its recording says what the run says at its end."""

import numpy as np
import pytest

from sparcl_lite.config import RunConfig
from sparcl_lite.runs.job import OutOfTime, job_of
from sparcl_lite.runs.recording import Recorder, Recording, recording_path
from sparcl_lite.runs.run import run
from sparcl_lite.runs.store import Store
from sparcl_lite.sparsity import SparCL, StaticMask

SPARSE = {"sparsity": 0.5, "interval": 0.2, "gradient_interval": 3}
OF_THE_OCCASION = {"seconds", "peak_memory_bytes", "started", "finished", "environment"}


def tiny(**values):
    small = {"tasks": 2, "images_per_class": 10, "width": 8, "epochs": 3, "buffer_size": 20}
    return RunConfig(**({"profile": "smoke", "method": "der++"} | small | values))


def recorded(config, place):
    store = Store(place)
    return run(job_of(config, watch=Recorder(store, config)), store=store), Recording.of(store, config)


def numbers(result):
    return result.model_dump(exclude=OF_THE_OCCASION)


RUNS = {
    "sparcl": tiny(sparse=SparCL(**SPARSE)),
    "sparcl on the sparse engine": tiny(sparse=SparCL(**SPARSE), engine="sparse"),
    "random": tiny(sparse=StaticMask(kind="random", sparsity=0.5)),
    "dense": tiny(),
    "joint": tiny(method="joint"),
    "icarl": tiny(method="icarl"),
    "packnet": tiny(method="packnet"),
    "lightcl": tiny(method="lightcl"),
    "ewc": tiny(method="ewc"),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_recorder_changes_no_number_of_a_run(tmp_path, name):
    config = RUNS[name]
    plain = run(config, store=tmp_path / "plain")
    result, recording = recorded(config, tmp_path / "recorded")
    assert numbers(result) == numbers(plain)
    assert len(recording) == config.epochs * len(set(recording.task))


@pytest.fixture(scope="module")
def sparcl(tmp_path_factory):
    return recorded(RUNS["sparcl"], tmp_path_factory.mktemp("recorded"))


def test_the_last_moment_of_a_task_is_what_the_run_reports(sparcl):
    result, recording = sparcl
    for task in range(2):
        last = recording.at(task, 2)
        for name, matrix in (("class_il", "accuracy_matrix"), ("task_il", "task_il_matrix")):
            assert getattr(recording, name)[last] == pytest.approx(result.matrix(matrix)[task], abs=1e-3, nan_ok=True)
    at_end = recording.confusion[-1]
    assert 100 * at_end.trace() / at_end.sum() == pytest.approx(result.class_il, abs=0.5)


def test_overlap_with_the_mask_of_an_earlier_task_is_its_survival(sparcl):
    result, recording = sparcl
    assert np.isnan(recording.overlap[recording.task == 0]).all()
    survival = [result.sparse["weight_survival"][f"{layer}.weight"][1][2] for layer in recording.layers]
    assert recording.overlap[-1, :, 0] == pytest.approx(survival, abs=1e-3)
    sizes = recording.sizes / recording.sizes.sum()
    assert recording.weight_density @ sizes == pytest.approx(result.trace["weight_density"], abs=1e-3)


def test_samples_that_are_gone_are_those_that_ddr_removed(sparcl):
    result, recording = sparcl
    assert recording.active.sum(axis=1).tolist() == result.trace["samples"]
    removed = {sample for stage in result.sparse["removed"][1] for sample in stage}
    assert removed
    gone = recording.active[recording.at(1, 0)] & ~recording.active[recording.at(1, 2)]
    assert set(np.flatnonzero(gone)) == removed
    assert recording.misclassified[-1].tolist() == result.sparse["misclassified"]


def test_the_buffer_holds_classes_that_were_seen(sparcl):
    _, recording = sparcl
    assert recording.buffer_labels.shape == (6, 20)
    assert recording.buffer_images.shape[:2] == (2, 20)
    first = set(recording.buffer_labels[recording.at(0, 2)].tolist())
    assert first < set(recording.buffer_labels[-1].tolist())


def test_a_run_that_stops_and_goes_on_has_one_whole_recording(tmp_path, sparcl):
    class StopAfter(Recorder):
        def saved(self):
            if self.trainer.position == (1, 1):
                raise OutOfTime("stopped")

    config, store = RUNS["sparcl"], Store(tmp_path)
    with pytest.raises(OutOfTime):
        run(job_of(config, watch=StopAfter(store, config)), store=store)
    assert len(Recording.of(store, config)) == 4
    _, whole = sparcl
    _, resumed = recorded(config, tmp_path)
    assert set(resumed.arrays) == set(whole.arrays)
    for name, array in whole.arrays.items():
        np.testing.assert_array_equal(resumed.arrays[name], array, err_msg=name)


def test_a_recording_of_other_evidence_is_found(tmp_path, sparcl):
    result, _ = sparcl
    assert Recording.of(Store(tmp_path), result.config) is None
    path = recording_path(tmp_path / "evidence", result.config)
    path.parent.mkdir(parents=True)
    np.savez(path, task=np.zeros(3))
    assert len(Recording.of(Store(tmp_path, tmp_path / "evidence"), result.config)) == 3
