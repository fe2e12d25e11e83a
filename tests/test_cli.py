"""The command line keeps its contract: JSON alone on stdout, one line and exit code 2 for anything wrong."""

import functools
import importlib.metadata
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from sparcl_lite import cli
from sparcl_lite.runs.result import RunResult

pytestmark = pytest.mark.slow

RUN = ["run", "--dataset", "digits", "--method", "der++", "--sparse", "sparcl", "--sparsity", "0.9",
       "--buffer-size", "200", "--seed", "0", "--profile", "smoke"]  # fmt: skip
TINY = [*RUN, "--set", "tasks=2", "--set", "images_per_class=10"]


@pytest.fixture(autouse=True)
def _somewhere_else(tmp_path, monkeypatch):
    """No command may depend on, or write to, the folder of the checkout."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("SPARCL_LITE_STORE", raising=False)


@pytest.fixture
def call(monkeypatch, capsys):
    """Runs `sparcl-lite` with these arguments in this process: exit code, stdout, stderr without progress."""

    def called(*arguments):
        monkeypatch.setattr(sys, "argv", ["sparcl-lite", *map(str, arguments)])
        capsys.readouterr()
        with warnings.catch_warnings():  # of `showwarning`, which main replaces
            warnings.simplefilter("default")
            with pytest.raises(SystemExit) as stop:
                cli.main()
        out, err = capsys.readouterr()
        lines = [line for line in re.split(r"[\r\n]+", err) if line.strip() and "|" not in line]
        progress = re.compile(r"\[\d+/\d+\] |compiling (the sparse engine's kernels|kernel \d+) ")
        return stop.value.code or 0, out, [line for line in lines if not progress.match(line)]

    return called


def test_run_prints_the_result_and_keeps_it(call, tmp_path, monkeypatch):
    store = tmp_path / "store"
    code, out, err = call(*RUN, "--store", store, "--json")
    assert (code, err) == (0, [])
    result = json.loads(out)
    assert set(result) == set(RunResult.model_fields)
    assert {"dataset": "digits", "method": "der++", "buffer_size": 200, "seed": 0}.items() <= result["config"].items()
    assert result["config"]["sparse"]["sparsity"] == 0.9
    assert set(result["flops"]) == {"paper", "honest", "by_part"}
    assert set(result["seconds"]) == {"train", "eval", "train_processor", "eval_processor"}
    monkeypatch.setattr("sparcl_lite.runs.training.Training.compute", lambda *_: pytest.fail("trained again"))
    assert call(*RUN, "--store", store, "--json") == (0, out, [])
    code, out, _ = call("store", "list", "--store", store)
    assert code == 0
    assert f"sparcl-der++ 0.90, buffer 200, digits, seed 0: Class-IL {result['class_il']:.2f}, " in out
    assert call("store", "verify", "--store", store)[0] == 0
    assert call("store", "prune", "--store", store)[0] == 0
    assert call("store", "list", "--store", store)[1] == out


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_run_trains_lightcl_with_its_own_settings(call, tmp_path, variant):
    store = tmp_path / "store"
    given = ["--profile", "smoke", "--method", "lightcl", "--variant", variant, "--set", "lightcl.ratio=0.5"]
    small = ["--set", "tasks=2", "--set", "images_per_class=10", "--set", "epochs=1"]
    code, out, err = call("run", *given, *small, "--store", store, "--json")
    assert (code, err) == (0, [])
    result = json.loads(out)
    assert (result["config"]["lightcl"]["variant"], result["config"]["lightcl"]["ratio"]) == (variant, 0.5)
    assert result["config"]["frozen_norm"] == ("train" if variant == "official" else "eval")
    assert min(result["method"]["pattern_density"]) >= 0.5
    assert "lightcl, buffer 15, frozen to layer2, digits, seed 0" in call("store", "list", "--store", store)[1]


def test_run_without_store_keeps_it_where_it_was_called(call, tmp_path):
    code, out, err = call(*TINY)
    assert (code, err) == (0, [])
    (kept,) = (tmp_path / "here" / "build" / "store").glob("*.json")
    assert kept.stem in out
    assert "Class-IL" in out


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("--sparse sparcl --sparsity 0.75 --buffer-size 500", 2.527e15),
        ("--method der++", 13.886e15),
        ("--method er", 11.11e15),
    ],
)
def test_flops_are_the_papers(call, options, expected):
    code, out, err = call("flops", "--dataset", "cifar10", "--profile", "paper", "--json", *options.split())
    assert (code, err) == (0, [])
    values = json.loads(out)
    assert set(values) == {"paper", "honest", "by_part"}
    assert values["paper"] == pytest.approx(expected, rel=0.01)
    assert sum(values["by_part"].values()) == pytest.approx(values["honest"])


def test_claims_as_json_and_as_a_table(call, tmp_path):
    code, out, err = call("claims", "--json", "--store", tmp_path / "empty")
    assert (code, err) == (0, [])
    listed = {entry["id"]: entry for entry in json.loads(out, parse_constant=lambda _: pytest.fail("NaN is no JSON"))}
    for entry in listed.values():
        assert {"publication", "statement", "source", "bound", "level", "n", "paper", "paper_inside", "seeds_to_decide",
                "rule_commit", "run_commits", "rule_first"} <= set(entry)  # fmt: skip
        for comparison in entry["comparisons"]:
            assert {"a", "b", "mean", "low", "high", "n", "paper", "paper_inside", "smallest_effect",
                    "seeds_to_decide", "note"} <= set(comparison)  # fmt: skip
    assert listed["phone-3.1x"]["verdict"] == "not testable here"
    planned = {  # computed at the paper's size, without runs
        "flops-23x": "contradicted", "flops-tiny": "contradicted", "flops-2.7x": "reproduced",
        "memory-90": "contradicted", "memory-95": "contradicted",
        "flops": "reproduced", "flops-with-sparcl": "reproduced",  # CLFD's
        "memory-6.16x": "inconclusive", "memory-dense": "inconclusive",  # LightCL's, which depend on the reading
    }  # fmt: skip
    assert {name: listed[name]["verdict"] for name in planned} == planned
    assert {entry["verdict"] for name, entry in listed.items() if name not in planned} == {"not testable here"}
    assert listed["tdm-accuracy"]["comparisons"][0]["mean"] is None
    (counted,) = listed["flops-tiny"]["comparisons"]
    assert counted["low"] == counted["mean"] == counted["high"]
    rest = len(json.loads(out)) - len(planned)
    code, out, err = call("claims", "--store", tmp_path / "empty")
    assert (code, err) == (0, [])
    assert f"3 reproduced, 4 contradicted, 2 inconclusive, {rest} not testable here" in out
    assert not (tmp_path / "empty").exists()


def test_a_terminal_says_that_claims_take_a_while(call, tmp_path, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # stands for a terminal
    _, out, err = call("claims", "--store", tmp_path / "empty", "--json")
    assert "judging the claims" in "".join(err)
    json.loads(out)


def test_a_table_of_stored_runs(call, tmp_path):
    assert call(*RUN, "--store", tmp_path / "s", "--set", "buffer_size=500", "--set", "sparse.sparsity=0.75")[0] == 0
    for form, start in ((["--json"], "["), (["--markdown"], "| method"), ([], "Paper")):
        code, out, err = call("table", "sparcl_table3", "--profile", "smoke", "--store", tmp_path / "s", *form)
        assert code == 0
        assert err == ["7 of 8 rows have no run yet: none, tdm, ddr, dgm, tdm+ddr, tdm+dgm, ddr+dgm"]
        assert out.startswith(start)
        assert "TDM + DDR + DGM" in out


COMMANDS = ["run", "sweep", "table", "claims", "flops", "reproduce", "render", "data", "data fetch",
            "data verify", "store", "store list", "store verify", "store prune", "store export", "bench",
            "show", "compare", "export", "init", "docs",
            "bench overhead", "bench step", "bench train", "bench memory", "bench kernels"]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(call, command):
    code, out, err = call(*command.split(), "--help")
    assert (code, err) == (0, [])
    assert "Example: sparcl-lite " in " ".join(out.split())
    listed = call("--help")[1]
    assert re.search(rf"^  {command.split()[0]} ", listed, re.MULTILINE)


def test_help_texts_are_whole_sentences(call):
    listed = call("--help")[1].partition("Commands:")[2]
    assert "..." not in listed
    assert all(text.rstrip().endswith(".") for text in re.split(r"^  \b", listed, flags=re.MULTILINE)[1:])


def test_the_version_is_that_of_the_package_also_as_a_module(call):
    code, out, err = call("--version")
    assert (code, out, err) == (0, f"sparcl-lite {importlib.metadata.version('sparcl-lite')}\n", [])
    module = subprocess.run([sys.executable, "-m", "sparcl_lite", "--version"], capture_output=True, text=True)
    assert module.stdout == out


def test_the_shell_completes_commands_and_names():
    def completed(words):
        asked = {"_SPARCL_LITE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        command = [Path(sys.executable).with_name("sparcl-lite")]
        done = subprocess.run(command, env=os.environ | asked, capture_output=True, text=True)
        return done.stdout.split()

    assert completed("sparcl-lite comp") == ["compare"]
    assert {"der", "der++"} <= set(completed("sparcl-lite run --method de"))


def test_finished_runs_are_shown_compared_and_exported(call, tmp_path):
    store = tmp_path / "s"
    keys = []
    for seed in ("0", "1"):
        line = call(*TINY, "--seed", seed, "--store", store)[1].splitlines()[-1]
        keys.append(re.match(r"kept as (\w+) in .*, finished \d{4}-\d\d-\d\dT", line)[1])
    code, out, err = call("show", keys[0][:8], "--store", store)
    assert (code, err) == (0, [])
    assert f"{keys[0]}: made here, in {store}, 20" in out
    assert re.search(r"^  sparse.sparsity +0.9$", out, re.MULTILINE)
    assert json.loads(call("show", keys[0], "--store", store, "--json")[1])["config"]["seed"] == 0
    code, out, err = call("compare", *keys, "--store", store)
    assert (code, err) == (0, [])
    assert re.search(r"^seed +0 +1$", out, re.MULTILINE)
    assert "sparse.sparsity" not in out
    code, _, (line,) = call("show", "nokey", "--store", store)
    assert (code, "no run of Store" in line) == (2, True)
    assert call(*RUN, "--store", store, "--set", "buffer_size=500", "--set", "sparse.sparsity=0.75")[0] == 0
    csv = tmp_path / "runs.csv"
    code, out, err = call("export", "sparcl_table3", "--csv", csv, "--profile", "smoke", "--store", store)
    assert (code, out, err) == (0, f"{csv}: 1 runs\n", [])
    assert csv.read_text().splitlines()[1].startswith("sparcl_table3,tdm+ddr+dgm,")


@pytest.mark.timeout(300)
def test_a_study_of_ones_own_runs_at_once_and_is_not_overwritten(call, tmp_path):
    place = tmp_path / "my-study"
    assert call("init", place)[0] == 0
    command = [sys.executable, "-m", "papermill", "study.ipynb", "out.ipynb", "-p", "seeds", "1"]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "check: 3 runs of 3 rows" in (place / "out.ipynb").read_text()
    assert {path.suffix for path in (place / "figures").iterdir()} == {".pdf", ".png", ".csv"}
    code, _, (line,) = call("init", place)
    assert code == 2
    assert "is there already" in line


WRONG = {
    "run --dataset mnist": ("dataset = 'mnist'", "digits"),
    "run --sparse sparcl --sparsity 1.5": ("sparsity = 1.5", "less than 1"),
    "run --sparsity 0.9": ("sparsity = 0.9", "needs --sparse"),
    "run --variant official": ("variant = 'official'", "--sparse"),
    "run --sparse sparcl --variant nobody": ("variant = 'nobody'", "'paper' or 'official'"),
    "run --method hal": ("method = 'hal'", "der++"),
    "run --sparse lottery": ("sparse.kind = 'lottery'", "sparcl", "random", "snip"),
    "run --profile huge": ("profile = 'huge'", "smoke, lite, desk, paper"),
    "run --set warmth=3": ("warmth", "not a parameter"),
    "run --set lr": ("'lr'", "NAME=VALUE"),
    "run --set lr=fast": ("lr = 'fast'", "number"),
    "run --set profile.x=1": ("profile.x", "sparse"),
    "run --set sparse=1": ("sparse = 1", "dictionary"),
    "run --device cuda": ("device = 'cuda'", "cpu"),
    "run --seed -1": ("'--seed'", "'-1'", "0"),
    "run --threads=0": ("'--threads'", "'0'", "1"),
    "claims --seeds 0": ("'--seeds'", "'0'", "1"),
    "claims --seeds few": ("'--seeds'", "'few'", "integer"),
    "claims --seeds": ("'--seeds'",),
    "claims --colour red": ("--colour", "allowed: --profile"),
    "table": ("'name'", "sparcl_table1"),
    "table sparcl_table9": ("experiment = 'sparcl_table9'", "sparcl_table3"),
    "table sparcl_table1 --profile smoke": ("sparcl_table1", "sparcl-lite sweep"),
    "sweep sparcl_table9": ("experiment = 'sparcl_table9'", "sparcl_table3", "ksparse_tables", "bench"),
    "reproduce nowhere": ("notebook = 'nowhere'", "quickstart"),
    "reproduce quickstart -p foo=1": ("foo", "buffer_size"),
    "reproduce sparcl_table1 quickstart -p buffers=[200]": ("quickstart: buffers", "buffer_size"),
    "reproduce quickstart -p sparsity": ("'sparsity'", "NAME=VALUE"),
    "data fetch mnist": ("dataset = 'mnist'", "cifar10"),
    "bench overhead --profile huge": ("profile = 'huge'", "paper"),
    "fly": ("'fly'", "run, sweep"),
    "data fly": ("'fly'", "fetch, verify"),
    "store": ("list, verify, prune, pack, export",),
    "": ("command", "run, sweep"),
}


@pytest.mark.parametrize("arguments", WRONG)
def test_wrong_input_is_one_line_and_harms_nothing(call, tmp_path, monkeypatch, arguments):
    monkeypatch.setattr("sparcl_lite.training.Trainer.run", lambda *_: pytest.fail("trained"))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    code, out, err = call(*shlex.split(arguments))
    assert (code, out) == (2, "")
    (line,) = err
    assert line.startswith("sparcl-lite: ")
    for part in WRONG[arguments]:
        assert part in line
    assert not list((tmp_path / "here").rglob("*.json"))


def test_an_unwritable_store_is_named(call, tmp_path):
    (tmp_path / "file").write_text("precious")
    for arguments in (TINY, ["sweep", "sparcl_table3", "--profile", "smoke"]):
        code, out, (*_, line) = call(*arguments, "--store", tmp_path / "file" / "store")
        assert (code, out) == (2, "")
        assert f"store = {tmp_path / 'file' / 'store'}: cannot be written to" in line
    code, _, (line,) = call("reproduce", "quickstart", "--output", tmp_path / "file")
    assert code == 2
    assert "cannot be written to" in line
    assert (tmp_path / "file").read_text() == "precious"


def test_a_truncated_result_is_set_aside_and_the_next_call_redoes_it(call, tmp_path):
    store = tmp_path / "store"
    assert call(*TINY, "--store", store)[0] == 0
    (kept,) = store.glob("*.json")
    whole = kept.read_bytes()
    kept.write_bytes(whole[: len(whole) // 2])
    code, out, (line,) = call(*TINY, "--store", store, "--json")
    assert (code, out) == (2, "")
    assert "is damaged" in line
    assert "set aside" in line
    assert (store / "damaged" / kept.name).read_bytes() == whole[: len(whole) // 2]
    code, out, err = call(*TINY, "--store", store, "--json")
    assert (code, err) == (0, [])
    assert json.loads(out)["class_il"] == json.loads(whole)["class_il"]


def test_missing_data_without_a_network_is_quick_and_says_what_to_do(call, tmp_path, monkeypatch):
    monkeypatch.setenv("SPARCL_LITE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("PATH", str(tmp_path))  # no npm
    for variable in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9" if "http" in variable.lower() else "")
    for arguments in (["run", "--dataset", "cifar10", "--profile", "smoke"], ["data", "fetch", "cifar10"]):
        code, out, (line,) = call(*arguments)
        assert (code, out) == (2, "")
        assert "cifar10 is not available" in line
        assert f"into {tmp_path / 'data'} and run again" in line
    assert {path.name for path in (tmp_path / "data").iterdir()} <= {".cifar10.lock", "kept"}


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["sparcl_table1", "-p", 'seeds="x"'], ("sparcl_table1: seeds = 'x'", "integer", "buffers")),
        (["quickstart", "-p", "sparsity=1.5"], ("quickstart: sparsity = 1.5", "less than 1")),
    ],
)
def test_a_wrong_value_of_a_notebook_parameter(call, tmp_path, arguments, parts):
    code, out, (line,) = call("reproduce", *arguments, "--profile", "smoke", "--output", tmp_path / "out")
    assert (code, out) == (2, "")
    for part in parts:
        assert part in line
    assert not list((tmp_path / "out").rglob("store/*.json"))
    assert not (tmp_path / "out" / "report").exists()  # nothing is built before it is known


def test_the_installed_program_ends_quietly_when_interrupted(tmp_path):
    store = tmp_path / "store"
    command = [Path(sys.executable).with_name("sparcl-lite"), *RUN, "--set", "epochs=2000", "--store", store]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    heeding = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # jobs in the background ignore it
    with subprocess.Popen(command, preexec_fn=heeding, **pipes) as process:
        while not list(store.glob("checkpoints/*.pt")) and process.poll() is None:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert not list(store.glob("*.json"))


def test_a_method_that_must_know_the_task_shows_no_class_il(call, tmp_path):
    dense = ["run", "--profile", "smoke", "--set", "tasks=2", "--set", "images_per_class=10"]
    code, out, _ = call(*dense, "--method", "packnet", "--set", "lr=0.03", "--store", str(tmp_path))
    assert (code, "Class-IL -, Task-IL " in out) == (0, True)
    code, out, _ = call("store", "list", "--store", str(tmp_path))
    assert (code, "packnet, digits, seed 0: Class-IL -, Task-IL " in out) == (0, True)
