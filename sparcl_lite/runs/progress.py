"""How far several runs are: each says so at every epoch, wherever it runs, and one bar names those that are on."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from tqdm import tqdm

from sparcl_lite.runs.job import Job

FORM = "{desc}: {percentage:3.0f}%|{bar}| {elapsed} elapsed, about {remaining} left{postfix}"
NAMED = 3  # of the runs that are on; there may be as many as a cluster has workers

_listener: ContextVar[Callable[[float], None]] = ContextVar("listener", default=lambda share: None)


@contextmanager
def listening(listener: Callable[[float], None]) -> Iterator[None]:
    """What the run inside says of itself with `tell` goes to `listener`."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def tell(share: float) -> None:
    """Say that this share of the run, 0 to 1, is done."""
    _listener.get()(share)


class Bar:
    """One bar over several runs, by what they cost; `shares` of those that are on, by the id of their job."""

    def __init__(self, jobs: Iterable[Job], shown: bool):
        self.jobs = {"-".join(job.id): job for job in jobs}
        self.shares: dict[str, float] = {}
        self.finished: set[str] = set()
        self.noted = ""
        total = sum(job.cost for job in self.jobs.values())
        self.bar = tqdm(total=total, desc=self._count(), disable=not shown, bar_format=FORM, smoothing=0)

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *_) -> None:
        self.bar.close()

    def update(self, name: str, share: float) -> None:
        """A run is on, and so far."""
        if name in self.jobs and name not in self.finished:  # a report may come late
            self.shares[name] = share
            self._show()

    def finish(self, name: str) -> None:
        """A run is done."""
        self.shares.pop(name, None)
        self.finished.add(name)
        self._show()

    def note(self, text: str) -> None:
        """Something about all of them, in place of the names of those that are on; empty: nothing any more."""
        if text != self.noted:
            self.noted = text
            self._show()

    def _show(self) -> None:
        shares = dict(self.shares)  # reports come in another thread
        done = sum(self.jobs[name].cost for name in self.finished)
        self.bar.n = done + sum(share * self.jobs[name].cost for name, share in shares.items())
        texts = [self.jobs[name].name for name in list(shares)[:NAMED]]
        texts += [f"{len(shares) - NAMED} more"] * (len(shares) > NAMED)
        self.bar.set_description_str(self._count(), refresh=False)
        self.bar.set_postfix_str(self.noted or "now " * bool(texts) + "; ".join(texts), refresh=False)
        self.bar.refresh()

    def _count(self) -> str:
        return f"{len(self.finished)}/{len(self.jobs)} runs"
