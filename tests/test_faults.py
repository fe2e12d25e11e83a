"""A store on a bad day: no locks, other versions, killed writers, files that move; and one with very many results."""

import errno
import fcntl
import json
import os
import time

import numpy as np
import pytest
import torch
from test_store import config_of, result_of

from sparcl_lite.errors import KitError
from sparcl_lite.runs import evidence, listing
from sparcl_lite.runs.listing import listed
from sparcl_lite.runs.recording import Recording, recording_path
from sparcl_lite.runs.run import run
from sparcl_lite.runs.store import Store
from sparcl_lite.runs.train import _form


def tiny(**values):
    small = {"tasks": 2, "images_per_class": 10, "width": 8, "epochs": 2, "buffer_size": 20}
    return config_of(**(small | values))


# -- locks


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.EINVAL])
def test_a_file_system_without_locks_is_a_warning(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    store, config = Store(tmp_path), config_of()
    with pytest.warns(UserWarning, match=r"locks has no locks \(.+\): others may do the same work"), store.lock(config):
        store.put(result_of(config))
    with pytest.warns(UserWarning, match="no locks"), pytest.raises(KitError, match="cannot be packed"):
        store.pack()
    assert store.get(config) == result_of(config)


def test_of_a_finished_run_no_lock_stays(tmp_path):
    store, config = Store(tmp_path), config_of()
    with store.lock(config):
        assert list((tmp_path / "locks").glob("*.lock"))
        store.put(result_of(config))
    assert not list((tmp_path / "locks").iterdir())
    with store.lock(config_of(seed=1)):  # of an unfinished one it does, so that two processes meet
        pass
    assert len(list((tmp_path / "locks").iterdir())) == 1


def test_who_works_on_a_run_next_removes_what_a_killed_writer_left(tmp_path):
    store, config = Store(tmp_path), config_of()
    store.save_checkpoint(config, {"epoch": 1})
    left = [tmp_path / f".{config.key}.json.1.tmp", tmp_path / "checkpoints" / f".{config.key}.pt.1.tmp"]
    other = tmp_path / "checkpoints" / f".{config_of(seed=1).key}.pt.1.tmp"
    for path in (*left, other):
        path.write_bytes(b"half")
    with store.lock(config):
        assert [path.exists() for path in (*left, other)] == [False, False, True]
    assert store.load_checkpoint(config) == {"epoch": 1}


# -- other versions of the package


@pytest.mark.parametrize("place", [(), ("seconds",), ("config",), ("config", "sparse")])
def test_a_result_with_fields_of_a_newer_version_is_used(tmp_path, place):
    store = Store(tmp_path)
    result = result_of(config_of(method="der++", sparse={"kind": "sparcl"}))
    path = store.put(result)
    given = json.loads(path.read_bytes())
    inner = given
    for name in place:
        inner = inner[name]
    inner["field_of_tomorrow"] = False
    path.write_text(json.dumps(given))
    assert store.get(result.config) == result
    assert store.verify() == []


def test_a_run_that_only_another_version_knows_is_left_alone(tmp_path):
    store, result = Store(tmp_path), result_of(config_of())
    given = json.loads(store.put(result).read_bytes())
    given["config"]["field_of_tomorrow"] = True
    path = tmp_path / f"{'0' * 20}.json"
    path.write_text(json.dumps(given))
    (said,) = store.verify()
    assert "is of another version of this package: config.field_of_tomorrow is not known here; left as it is" in said
    with pytest.warns(UserWarning, match="another version"):
        assert list(store.results()) == [result]
    assert store.pack() == 1
    assert json.loads(path.read_bytes()) == given


@pytest.mark.parametrize("lost", ["started", "peak", "totals.steps", "ledger.forward", "trace", "rng.buffer"])
def test_a_checkpoint_that_lacks_a_field_is_set_aside_and_the_run_comes_out_the_same(tmp_path, monkeypatch, lost):
    config, states = tiny(), []
    with monkeypatch.context() as patch:
        patch.setattr(Store, "save_checkpoint", lambda self, config, state: states.append(torch.save(state, place)))
        place = tmp_path / "state.pt"
        whole = run(config, store=tmp_path / "whole")
    state = torch.load(place, weights_only=True)
    inner, name = state if lost in state else state["trainer"], lost
    if "." in lost:
        part, name = lost.split(".")
        inner = inner[part]
    del inner[name]
    store = Store(tmp_path / "store")
    store.save_checkpoint(config, state)
    with pytest.warns(UserWarning, match=r"is damaged \(\w+\); set aside as .+; the run starts over"):
        again = run(config, store=store)
    assert again.model_dump(include={"flops", "accuracy_matrix", "trace"}) == whole.model_dump(
        include={"flops", "accuracy_matrix", "trace"}
    )


def test_the_form_of_a_state_is_its_names_types_and_shapes():
    state = {"a": torch.zeros(2, 3), "b": {"c": 1, "d": [1.0]}}
    assert _form(state) == _form({"a": torch.ones(2, 3), "b": {"c": 2, "d": []}})
    for other in ({"a": torch.zeros(3, 2), "b": state["b"]}, {"a": state["a"]}, state | {"b": {"c": 1.0, "d": []}}):
        assert _form(state) != _form(other)


# -- packing and listing


def test_packing_drops_the_checkpoint_of_a_process_that_was_killed_after_its_result(tmp_path):
    store, config = Store(tmp_path / "store"), config_of()
    store.put(result_of(config))
    store.save_checkpoint(config, {"epoch": 3})
    store.save_checkpoint(config_of(seed=1), {"epoch": 2})  # of a run that is not finished
    store.pack()
    assert store.load_checkpoint(config) is None
    assert store.load_checkpoint(config_of(seed=1)) == {"epoch": 2}


def test_packing_moves_results_into_one_file_and_changes_none(tmp_path):
    store, results = Store(tmp_path), [result_of(config_of(seed=seed)) for seed in range(3)]
    for result in results:
        store.put(result)
    before = sorted(listed(store))
    assert store.pack() == 3
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"runs.jsonl", "listing.cache", "pack.lock"}
    assert [store.get(result.config) for result in results] == results
    assert sorted(listed(store)) == before
    again = results[0].model_copy(update={"class_il": 1.0})
    store.put(again)
    assert store.get(again.config) == again  # the newer one, once
    assert len(list(store.results())) == 3
    assert store.pack() == 1
    assert store.get(again.config) == again
    assert len(evidence.lines(tmp_path)) == 3
    assert store.pack() == 0


def test_packing_leaves_damaged_files_and_what_is_written_meanwhile(tmp_path, monkeypatch):
    store, first, second = Store(tmp_path), result_of(config_of()), result_of(config_of(seed=1))
    path = store.put(first)
    damaged = store.put(second)
    damaged.write_text("{")
    newer, original = first.model_copy(update={"class_il": 2.0}), listing.remember
    with monkeypatch.context() as patch:
        patch.setattr(listing, "remember", lambda *given: (original(*given), Store(tmp_path).put(newer))
                      if given[1][0][1].startswith("line") else original(*given))  # fmt: skip
        assert store.pack() == 1
    assert path.exists()
    assert store.get(first.config) == newer
    assert damaged.exists()


def test_a_line_is_found_where_it_is_now(tmp_path):
    store = Store(tmp_path)
    results = [result_of(config_of(seed=seed)) for seed in range(2)]
    store.put(results[0])
    store.pack()
    (line,) = evidence.lines(tmp_path).values()
    text = line.read()
    store.put(results[1])
    store.pack()  # lines move
    assert line.read() == text
    (tmp_path / "packed" / "runs.jsonl").write_text("")
    with pytest.raises(KitError, match="is no longer there"):
        line.read()


def test_a_result_that_is_packed_while_the_store_is_read_is_not_missed(tmp_path):
    store = Store(tmp_path)
    for seed in range(3):
        store.put(result_of(config_of(seed=seed)))
    reading = store.results()
    next(reading)
    store.pack()
    assert len(list(reading)) == 2


def test_the_listing_is_that_of_the_results_whatever_became_of_its_memory(tmp_path):
    store, results = Store(tmp_path), [result_of(config_of(seed=seed)) for seed in range(3)]
    for result in results:
        store.put(result)
    cache = tmp_path / listing.NAME
    expected = list(listed(store))
    assert [line.split()[0] for line in expected] == sorted(result.config.key for result in results)
    assert all("Class-IL 33.33, Task-IL 33.33" in line for line in expected)
    for content in (b"", b"\xff\0\n\t.\n", cache.read_bytes()[:-40], None):
        cache.unlink() if content is None else cache.write_bytes(content)
        assert list(listed(store)) == expected
    changed = results[1].model_copy(update={"class_il": 99.0})
    store.path(changed.config).write_text(changed.model_dump_json())  # not by this package
    assert sum("Class-IL 99.00" in line for line in listed(store)) == 1
    store.path(results[0].config).unlink()
    assert len(list(listed(store))) == 2
    store.path(results[2].config).write_text("{")
    with pytest.warns(UserWarning, match="is damaged"):
        assert len(list(listed(store))) == 1


def test_a_listing_reads_no_result_that_it_knows(tmp_path, monkeypatch):
    store = Store(tmp_path)
    for seed in range(3):
        store.put(result_of(config_of(seed=seed)))
    monkeypatch.setattr(Store, "of_kind", lambda *_: pytest.fail("read a result"))
    assert len(list(listed(store))) == 3


def test_the_listing_of_committed_results_leaves_their_folder_alone(tmp_path):
    store = Store(tmp_path / "made")
    store.put(result_of(config_of()))
    store.export(tmp_path / "results", lambda result: "some")
    before = sorted((tmp_path / "results").rglob("*"))
    assert len(list(listed(Store(tmp_path / "results")))) == 1
    assert sorted((tmp_path / "results").rglob("*")) == before


@pytest.mark.slow
def test_twenty_thousand_results_are_listed_in_well_under_a_second_of_processor_time(tmp_path):
    """Of 100,000 this is a fifth; docs/reliability.md has what those took."""
    store, result = Store(tmp_path), result_of(config_of())
    store.put(result)
    whole = (tmp_path / listing.NAME).read_text().strip().split("\t")
    lines = []
    for number in range(20_000):
        path = tmp_path / f"{number:020x}.json"
        path.touch()
        lines.append((f"training/{path.stem}", listing.state_of(path.stat()), whole[2]))
    listing.remember(tmp_path, lines)
    begun = time.process_time()
    assert len(list(listed(store))) == 20_001
    assert time.process_time() - begun < 1.5


# -- recordings


def test_a_damaged_recording_is_a_warning(tmp_path):
    config = config_of()
    path = recording_path(tmp_path, config)
    path.parent.mkdir()
    np.savez(path, task=np.array([object()]))
    with pytest.warns(UserWarning, match=r"is damaged \(Object arrays cannot be loaded .+\); not used"):
        assert Recording.of(Store(tmp_path), config) is None
    path.write_bytes(b"half")
    with pytest.warns(UserWarning, match=r"is damaged"):
        assert Recording.of(Store(tmp_path), config) is None
