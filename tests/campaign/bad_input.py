"""Generated wrong input: each has to be refused with one line and exit code 2, and to change nothing."""

import shutil
import warnings
from pathlib import Path
from random import Random

from campaign import bad_archives, bad_files, bad_options, bad_plugins
from campaign.sandbox import Sandbox, changes, refused, writes_elsewhere
from campaign.tally import Tally

#: Generators by the kind of input, and how many of a hundred are of it.
KINDS = {
    "wrong configurations": (bad_options.configuration, 26),
    "wrong options": (bad_options.options, 10),
    "unusable places": (bad_options.places, 4),
    "notebook parameters": (bad_options.notebook, 10),
    "plugin files": (bad_plugins.plugin, 10),
    "results in a store": (bad_files.store_file, 12),
    "lines of evidence": (bad_files.evidence, 4),
    "matrices": (bad_files.matrix, 8),
    "archives": (bad_archives.archive, 8),
    "arrays, zips and gzips": (bad_archives.arrays, 4),
    "folders of images": (bad_archives.images, 4),
}
SPAWNED = 50  # of so many commands one is a process of its own


def run(folder: Path, tally: Tally, *, count: int, seed: int) -> None:
    """Give `count` wrong inputs to the commands and functions, those of a kind to a fresh place."""
    for number, (kind, (generate, share)) in enumerate(KINDS.items()):
        rng, place = Random(f"{seed} {kind}"), Sandbox(folder / f"input-{number}")
        for turn in range(max(1, round(count * share / 100))):
            _clean(place)
            action = generate(rng, place)
            before = place.contents()
            with writes_elsewhere(folder) as elsewhere, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if callable(action):
                    outcome = refused(action)
                else:
                    outcome = (place.spawn if turn % SPAWNED == SPAWNED - 1 else place.call)(*action)
            found = [*outcome.problems(), *changes(before, place.contents())]
            found += [("wrong", f"wrote {path}") for path in elsewhere]
            if (place.root / "owned").exists():
                found.append(("wrong", "ran the code in a pickle"))
            said = "a call in Python" if callable(action) else " ".join(action)[:200]
            tally.add(kind, [(column, f"{said!r} (seed {seed}, {turn}): {what}") for column, what in found])


def _clean(place: Sandbox) -> None:
    """Nothing of the last input stays in the store or among the data."""
    for folder in (place.store, place.data, place.here):
        for path in folder.iterdir():
            if path.name != "kept":
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
