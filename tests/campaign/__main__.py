"""`python -m campaign`: all parts or some, of any size and seed; the table, and exit code 1 where something failed."""

import argparse
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import torch

from campaign import bad_input, faults, kills, long_run, transfers
from campaign.tally import Tally

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
#: Each part with its function, and how many faults a whole campaign injects in it.
PARTS = {
    "kills": (kills.run, 170),
    "fetching": (transfers.fetching, 20),
    "notebooks": (transfers.notebooks, 10),
    "faults": (faults.faults, 10),
    "input": (bad_input.run, 1000),
    "long": (long_run.run, 300),
}


def main() -> int:
    """Run the chosen parts; 1 where anything was lost, wrong or a traceback."""
    parser = argparse.ArgumentParser(prog="campaign", description=__doc__)
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of {', '.join(PARTS)}; all when left out")
    parser.add_argument("--seed", type=int, default=1, help="of all moments and inputs")
    parser.add_argument("--size", type=float, default=1.0, help="share of a whole campaign: 0.1 is a tenth")
    parser.add_argument("--write", action="store_true", help="put the table into docs/reliability.md")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also in the background: the table of what is done
    tally, folder, begun = Tally(), Path(tempfile.mkdtemp(prefix="campaign-")), time.monotonic()
    how = f"Seed {chosen.seed}, size {chosen.size:g}"
    for name in chosen.parts.split(","):
        act, count = PARTS[name]
        print(f"{name}, seed {chosen.seed} ...", file=sys.stderr, flush=True)
        try:
            act(folder / name, tally, count=max(1, round(count * chosen.size)), seed=chosen.seed)
        except KeyboardInterrupt:
            how += f", interrupted in {name}"
            break
        print(tally.markdown(), file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    minutes = (time.monotonic() - begun) / 60
    said = f"{how}, Python {sys.version.split()[0]}, PyTorch {torch.__version__}: {minutes:.0f} minutes."
    print(said, tally.markdown(), *tally.failures, sep="\n")
    if chosen.write:
        tally.write(PAGE, said)
    return int(tally.failed)


if __name__ == "__main__":
    sys.exit(main())
