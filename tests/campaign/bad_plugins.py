"""Plugin files that fail, are none, or register what they cannot."""

from random import Random

from campaign.sandbox import Sandbox

IMAGES = "x = np.zeros((4, 8, 8), 'u1')\n"
#: Each runs after imports of `sparcl_lite as sl` and `numpy as np`.
BROKEN = {
    "syntax": "def f(:\n",
    "import": "import nothing_of_this_name",
    "raise": "raise ValueError('two\\nlines')",
    "exit": "import sys; sys.exit(0)",
    "exit text": "raise SystemExit('stop')",
    "recursion": "def f(): f()\nf()",
    "zero": "1 / 0",
    "taken": "@sl.register.method('er')\nclass A(sl.Method): pass",
    "no method": "@sl.register.method('campaign-a')\nclass A: pass",
    "no network": "sl.register.network('campaign-b')(7)",
    "no strategy": "@sl.register.strategy('campaign-c', config=dict)\nclass A: pass",
    "no clusterer": "sl.register.clusterer('campaign-d')(None)",
    "floats": IMAGES + "sl.register.dataset('f', train=(x / 2, [0, 1, 0, 1]), test=(x, [0, 1, 0, 1]))",
    "labels": IMAGES + "sl.register.dataset('g', train=(x, [0, 1]), test=(x, [0, 1]))",
    "empty": IMAGES + "sl.register.dataset('h', train=(x[:0], []), test=(x[:0], []))",
    "ragged": "sl.register.dataset('i', train=([[1], [1, 2]], [0, 1]), test=([[1]], [0]))",
    "text": "sl.register.dataset('j', train=('abc', 'abc'), test=('abc', 'abc'))",
    "mixed": IMAGES + "sl.register.dataset('k', train=(x[:2], [0, 'a']), test=(x[:2], [None, 1]))",
    "no folder": "sl.register.folder('l', 'nowhere')",
}


def plugin(rng: Random, place: Sandbox) -> list[str]:
    """A plugin file that fails, is none, or registers what it cannot."""
    path = place.here / f"plugin{rng.randrange(10**9)}.py"
    kind = rng.randrange(10)
    if kind == 0:
        path.write_bytes(rng.randbytes(200) + b"\0")
    elif kind == 1:
        path.mkdir()
    elif kind == 2:
        path.symlink_to(path)
    elif kind > 3:
        padding = f"# {rng.random()}\nimport numpy as np\nimport sparcl_lite as sl\n"
        path.write_text(padding + BROKEN[rng.choice(list(BROKEN))])
    named = (
        str(path)
        if kind != 3
        else rng.choice(("no_such_module", "os.nothing", "", "a b", "..", ".x", "-", "\u00e9.py"))
    )
    at = ["--plugin", named] if rng.random() < 0.5 else [f"--plugin={named}"]
    return [*at, "names"] if rng.random() < 0.5 else ["names", *at]
