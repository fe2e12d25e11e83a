"""Wrong options, configurations, notebook parameters and plugin files, drawn at random.

Each generator takes a `random.Random` and a `Sandbox` and gives the arguments of a command or a call in Python; both
have to be refused.
"""

import json
from collections.abc import Callable
from random import Random

import nbformat

from campaign.sandbox import Sandbox
from sparcl_lite.notebook import notebooks_folder

Action = list[str] | Callable[[], object]

WHOLE = (
    "seed",
    "images_per_class",
    "width",
    "epochs",
    "batch_size",
    "buffer_size",
    "replay_batch_size",
    "replay_from_task",
    "pretraining_classes",
    "pretraining_epochs",
    "tasks",
)
REAL = (
    "lr",
    "pretraining_lr",
    "alpha",
    "beta",
    "sparse.interval",
    "sparse.alpha",
    "sparse.p_inter",
    "sparse.removal",
    "sparse.cutoff",
    "sparse.freeze_from",
    "sparse.kept_gradients",
    "sparse.sparsity",
)
NAMES = (
    "dataset",
    "method",
    "network",
    "class_order",
    "holdout",
    "freeze",
    "frozen_norm",
    "pretraining",
    "engine",
    "profile",
    "sparse.kind",
    "sparse.variant",
    "sparse.growth",
    "sparse.removal_rule",
    "sparse.ties",
)
SWITCHES = ("drop_last", "even_batches", "masked_ce", "freeze_first_task", "merge_batches", "sparse.tdm", "sparse.ddr")
NOT_A_NUMBER = (
    "x",
    "",
    "[]",
    "[1]",
    "{}",
    '{"a": 1}',
    "null",
    "NaN",
    "-Infinity",
    "Infinity",
    "1e999",
    "-1",
    "-1e300",
    "1,5",
    "0x10",
    "--",
    "\u0661e",
    "1 2",
    "a\nb",
    "\x1b[31m",
    "\u202e7",
    "[" * 2000,
    "9" * 5000,
)
NOT_A_NAME = (
    "x",
    "",
    "[]",
    "{}",
    "null",
    "0",
    "-1",
    "../../etc",
    "digits ",
    "DIGITS",
    "a\nb",
    "\x1b[2J",
    "true",
    "%s",
    "{dataset}",
    "__import__('os')",
    "<b>",
    "\u202e",
    "x" * 10_000,
    "caf\u00e9",
    '["digits"]',
)
NOT_A_SWITCH = ("perhaps", "7", "[]", "null", "{}", "2.5", "", "tru", "NaN", "-1")
COMMANDS = (
    ["run"],
    ["sweep"],
    ["flops"],
    ["table"],
    ["claims"],
    ["reproduce"],
    ["names"],
    ["data", "fetch"],
    ["data", "verify"],
    ["store", "list"],
    ["store", "verify"],
    ["store", "prune"],
    ["store", "export"],
    ["show"],
    ["compare"],
    ["export"],
    ["cluster"],
    ["init"],
    ["bench", "overhead"],
)


def configuration(rng: Random, place: Sandbox) -> Action:
    """A field of a run with a value that it cannot have, or a field that is not there."""
    command = [rng.choice(("run", "flops")), "--profile", "smoke", "--set", "dataset=digits", "--sparse", "sparcl"]
    kind = rng.randrange(5)
    if kind == 0:
        name, value = rng.choice(WHOLE), rng.choice((*NOT_A_NUMBER, "1.5"))
        if name in ("tasks",) and value == "[1]":
            value = "[0]"
    elif kind == 1:
        name, value = rng.choice(REAL), rng.choice(NOT_A_NUMBER)
    elif kind == 2:
        name, value = rng.choice(NAMES), rng.choice(NOT_A_NAME)
    elif kind == 3:
        name, value = rng.choice(SWITCHES), rng.choice(NOT_A_SWITCH)
    else:
        name = rng.choice(
            (
                "lrr",
                "Seed",
                "sparse.speed",
                "a.b.c",
                "__class__",
                "model_config",
                "sparse.",
                ".lr",
                "registered.x",
                "sparse.kind.x",
                "",
                "a b",
                "\u00e9",
                "own",
                "key",
                "clfd.x",
            )
        )
        value = rng.choice(("1", "true", '"x"', "{}"))
    return [*command, "--set", f"{name}={value}"]


def options(rng: Random, place: Sandbox) -> Action:
    """A command with an option that it does not have, a value that the option cannot have, or a name not known."""
    command = rng.choice(COMMANDS)
    kind = rng.randrange(4)
    if kind == 0:
        return [*command, rng.choice(("--colour", "--set", "-x", "--seed", "--no", "--\u00e9", "--seed=--"))]
    if kind == 1:
        return [
            "run",
            rng.choice(("--seed", "--threads", "--buffer-size", "--sparsity")),
            rng.choice([v for v in NOT_A_NUMBER if v != "[" * 2000]),
        ]
    if kind == 2:
        wrong = rng.choice(NOT_A_NAME[:10])
        return rng.choice(
            (
                ["table", f"t{wrong}"],
                ["sweep", f"t{wrong}"],
                ["show", f"zz{wrong}"],
                ["export", f"t{wrong}", "--csv", "x.csv"],
                ["compare", "zz", f"q{wrong}"],
                ["reproduce", f"n{wrong}"],
                ["data", "fetch", f"d{wrong}"],
                ["data", "verify", f"d{wrong}"],
                ["claims", "--profile", f"p{wrong}"],
                ["table", "sparcl_table1", "--dataset", f"d{wrong}"],
            )
        )
    return [rng.choice(("fly", "Run", "", "store-list", "run;ls", "../run", "\u202e", "run\n", "$(ls)", "--"))]


def places(rng: Random, place: Sandbox) -> Action:
    """A store, an output or a file that cannot be there."""
    taken = place.here / f"file{rng.randrange(10**6)}"
    taken.write_text("precious")
    wrong = rng.choice((str(taken), f"{taken}/deeper", "~nobody-of-this-name/x", "x" * 300, "/proc/nothing/x", "a\0b"))
    return rng.choice(
        (
            ["run", "--profile", "smoke", "--dataset", "digits", "--store", wrong],
            ["store", "prune", "--store", f"{place.store}/clustering"],
            ["init", wrong],
            ["reproduce", "quickstart", "--output", wrong],
            ["cluster", str(_cells(place)), "--clusters", "2", "--genes", "5", "--out", wrong],
            ["store", "export", "--to", wrong, "--store", str(_kept(place))],
        )
    )


def _cells(place: Sandbox):
    path = place.here / "cells.csv"
    rows = [",".join(str((i * j) % 7 + (i % 2) * 5 * (j < 4)) for j in range(8)) for i in range(30)]
    path.write_text("\n".join([",".join(f"g{j}" for j in range(8)), *rows]) + "\n")
    return path


def _kept(place: Sandbox):
    from campaign.bad_files import kept

    return kept(place).root


def notebook(rng: Random, place: Sandbox) -> Action:
    """A notebook's cells of parameters and imports, with a parameter that it does not have or cannot have."""
    path = rng.choice(sorted(p for p in notebooks_folder().glob("*.ipynb") if p.stem not in ("claims", "explore")))
    cells = [c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"][:2]
    checked = cells[1].partition("p = Parameters.checked")[0].partition("p = NotebookParameters.checked")[0]
    owner = "Parameters" if "class Parameters" in checked else "NotebookParameters"
    names = [line.partition(" = ")[0] for line in cells[0].splitlines()]
    known = [
        name for name in names if name in ("seeds", "buffer", "buffers", "sparsities", "seed", "sparsity", "figures")
    ]
    misspelt = rng.random() < 0.4
    name = (
        rng.choice(("sedes", "sparsty", "Profile", "stores", "p_intra", "_x1", "method_"))
        if misspelt
        else rng.choice(known)
    )
    value = (
        rng.choice(("'x'", "1.5", "[]", "0"))
        if misspelt
        else rng.choice(('{"a": 1}', "None", "b'x'", "{1}", "1j", "(None,)"))
    )
    injected = f"# Parameters\n{name} = {value}\n"
    if rng.random() < 0.3:
        value = json.dumps(rng.choice(("x", 1.5, {"a": 1})))
        return ["reproduce", path.stem, "-p", f"{rng.choice(('sedes', 'x y', 'a.b', 'p', '__x'))}={value}"]

    def act():
        namespace: dict = {"In": ["", cells[0], injected]}
        with place.inside():
            exec(cells[0], namespace)
            exec(injected, namespace)
            exec(checked, namespace)
            namespace[owner].checked(namespace)

    return act
