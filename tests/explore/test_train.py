"""The view that trains: what it says is what it trains, and training goes on, stops and is compared."""

import re
import shlex
import time

import pytest
import typer.testing

import sparcl_lite as sl
from sparcl_lite.cli import app
from sparcl_lite.errors import KitError
from sparcl_lite.explore import figures
from sparcl_lite.explore.background import DONE, FAILED, STOPPED, TRAINING, Background, Progress
from sparcl_lite.explore.choices import DENSE, Choice, known_of, name_of
from sparcl_lite.explore.train import Train, rows_recorded, table_of
from sparcl_lite.registry import METHODS
from sparcl_lite.runs.recording import Recording

TINY = "tasks=2, images_per_class=10, width=8, epochs=3, buffer_size=20"
SMOKE = {"profile": "smoke", "seed": 3}
CHOICES = [
    Choice(**SMOKE),
    Choice(**SMOKE, strategy=DENSE, method="sgd"),
    Choice(**SMOKE, strategy="snip", sparsity=0.75, method="er", further="lr=0.05, tasks=4,3,3"),
    Choice(**SMOKE, strategy="rigl", dataset="fashion-mnist", further="sparse.interval=7"),
    Choice(**SMOKE, strategy=DENSE, method="lightcl", buffer_size=30),
]


@pytest.fixture
def store(tmp_path):
    return sl.Store(tmp_path / "a store")


@pytest.mark.parametrize("choice", CHOICES)
def test_three_lines_of_python_make_the_run_that_is_chosen(choice, store, monkeypatch):
    lines = choice.python(store)
    assert lines.count("\n") == 2
    made = []
    monkeypatch.setattr(sl, "run", lambda config, store: made.append((config, store)), raising=False)
    exec(lines, {})
    assert made == [(choice.config, str(store.root))]


@pytest.mark.parametrize("choice", CHOICES)
def test_the_command_makes_the_run_that_is_chosen(choice, store, monkeypatch):
    made = []
    monkeypatch.setattr("sparcl_lite.runs.store.Store.get", lambda self, config: made.append((self.root, config)))
    words = shlex.split(choice.shell(store))
    assert words[0] == "sparcl-lite"
    typer.testing.CliRunner().invoke(app, [*words[1:], "--device", "none"])  # nothing is trained
    assert made[0][0] == store.root
    assert made[0][1].key == choice.config.key


def test_what_is_wrong_is_said_in_one_line():
    for further, said in {"lr=-1": "lr = -1", "depth=3": "depth is not a parameter", "lr": "'lr' is no assign"}.items():
        with pytest.raises(KitError, match=re.escape(said)) as error:
            _ = Choice(further=further).config
        assert "\n" not in str(error.value)


def test_registered_names_can_be_chosen():
    sl.register.method("smoother")(type("Smoother", (METHODS["er"],), {}))
    try:
        assert "smoother" in Choice.allowed()["method"]
        assert Choice(method="smoother").config.method == "smoother"
    finally:
        METHODS.forget("smoother")


def test_time_left_is_that_of_the_steps_of_this_process():
    progress = Progress(
        Choice().config, TRAINING, done=30, steps=90, at_start=10, task=2, epoch=1, began=100, ended=110
    )
    assert progress.seconds_left == pytest.approx(30)
    assert progress.text == "task 2 of 5, epoch 1 of 10, step 30 of 90; about 30 s left"
    assert "left" not in Progress(Choice().config, TRAINING, steps=90, began=100).text


@pytest.fixture
def view(store):
    made = Train(store, profile="smoke")
    yield made
    made.background.close()


def choose(view, **values):
    for name, value in values.items():
        view.fields[name].value = value


@pytest.mark.slow
def test_a_run_is_trained_stopped_and_finished_while_this_process_is_free(view, store, wait):
    choose(view, further=TINY.replace(", buffer_size=20", ""), buffer_size=20)
    config = view.choice.config
    assert "new" in view.said.value
    seen = []
    view.background.listeners.insert(0, lambda: seen.append(view.background.progress))
    view.train.click()
    assert view.train.disabled
    assert not view.stop.disabled
    wait(lambda: len(view.background.progress.rows) >= 1)
    view.stop.click()
    wait(lambda: "stopped before" in view.said.value)
    assert view.background.progress.status == STOPPED
    assert store.checkpoint_path(config).exists()
    rows = len(view.background.progress.rows)
    assert 1 <= rows < 6

    view.train.click()
    wait(lambda: "stored" in view.said.value)
    assert view.background.progress.status == DONE
    assert {len(progress.rows) for progress in seen} >= {0, rows, 6}
    assert view.bar.value == view.bar.max == view.background.progress.steps
    assert name_of(config) in view.ticked
    assert 'alt="Class-IL accuracy of sparcl-der++ 0.90' in view.curve.value
    plain = sl.run(config, store=store.root.with_name("plain"))
    assert plain.accuracy_matrix == store.get(config).accuracy_matrix
    assert rows_recorded(Recording.of(store, config)) == view.background.progress.rows

    choose(view, seed=1, strategy=DENSE)
    view.train.click()
    wait(lambda: len(view.ticked) == 2)
    assert "2 runs" in view.still()[1]


@pytest.mark.slow
def test_what_fails_in_training_is_said_in_one_line(store, wait):
    background = Background(store)
    background.start(Choice(profile="smoke", strategy=DENSE, further="lr=1e9, images_per_class=20").config)
    wait(lambda: background.progress.status == FAILED)
    background.close()
    assert re.match(r"training diverged in task 1, epoch \d", background.progress.text)


@pytest.mark.slow
def test_closing_waits_until_slow_listeners_have_been_told_the_end(store, wait):
    told = []

    def slow():
        time.sleep(0.2)
        told.append(background.progress.status)

    background = Background(store, slow)
    background.start(Choice(profile="smoke", strategy=DENSE, method="sgd", further=TINY).config)
    wait(lambda: background.progress.status == DONE)
    background.close()
    assert told[-1] == DONE


def test_a_stored_run_is_shown_without_training(store):
    config = Choice(
        profile="smoke", strategy=DENSE, method="sgd", further="tasks=2, epochs=1, images_per_class=10"
    ).config
    result = sl.run(config, store=store)
    view = Train(store, [config], profile="smoke")
    choose(view, strategy=DENSE, method="sgd", further="tasks=2, epochs=1, images_per_class=10")
    assert known_of(store, config).startswith("stored")
    view.train.click()
    assert view.background.progress is None
    assert list(view.runs.values()) == [result]
    assert f"task 2: {result.accuracy_matrix[1][1]:.0f} %" in view.curve.value
    assert table_of(view.runs)["key"].tolist() == [config.key]
    view.ticks.children[0].value = False
    assert view.ticked == {}
    assert "no run is ticked" in view.table.value


def test_without_kernel_the_view_is_a_picture_with_an_alternative_text(store):
    data, metadata = Train(store, profile="smoke")._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert data["image/png"].startswith("iVBOR")
    assert metadata["image/png"]["alt"] == data["text/plain"] == "Train: no run is pinned yet"


def test_points_of_the_curve_are_those_that_were_evaluated():
    rows = [
        {"task": 0, "epoch": 2, "class_il": [90.0, None], "task_il": [95.0, None]},
        {"task": 1, "epoch": 2, "class_il": [10.0, 80.0], "task_il": [50.0, 99.0]},
    ]
    points = figures.accuracy_points(rows, epochs=3)
    assert points.to_numpy().tolist() == [[3, 1, 90.0], [6, 1, 10.0], [6, 2, 80.0]]
