"""Names that a configuration may use, and what they stand for: one `Registry` for each kind of thing.

Built-ins register themselves in their own files, which are imported when a name is first looked up; everything else is
registered by a user (`sparcl_lite.register`), from any place. What a user registers has an identity, which is part of
the key of every run that uses it.
"""

import copyreg
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

from sparcl_lite.errors import KitError
from sparcl_lite.fingerprint import fingerprint, is_installed

PACKAGE = __name__.partition(".")[0]


class UnknownName(KitError, ValueError):
    """No such name; as a ValueError it is told with the field of a configuration that has it."""


@dataclass(frozen=True)
class Entry:
    """What is registered under a name.

    Attributes
    ----------
    value : the class, function or data set
    label : what a reader sees
    identity : of code its version or a hash of its source, of data a checksum; empty for built-ins
    facts : what else its kind of thing has, such as the configuration of a strategy
    """

    name: str
    value: Any
    label: str
    identity: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


class Registry(Mapping):
    """Entries of one kind by name; `home` is the package whose modules register the built-in ones."""

    def __init__(self, kind: str, home: str):
        self.kind, self._home = kind, home
        self._entries: dict[str, Entry] = {}
        self._complete = False

    def register(
        self,
        name: str,
        value: Any = None,
        *,
        label: str = "",
        version: str = "",
        identity: str = "",
        replace: bool = False,
        **facts: Any,
    ) -> Any:
        """Give a name to a value, or, without one, to the class or function that this decorates; returns it.

        `version` stands for the source in the keys of runs. Raises `KitError` where the name is taken, unless
        `replace`.
        """
        if value is None:
            return lambda decorated: self.register(
                name, decorated, label=label, version=version, replace=replace, **facts
            )
        builtin = _is_builtin(value) and not identity
        if not builtin:
            self._load_builtins()
            if name in self._entries and not replace:
                raise KitError(f"{self.kind} = {name!r}: is registered already; allowed: another name, or replace=True")
            identity = identity or version or fingerprint(value, facts.get("config"))
        self._entries[name] = Entry(name, value, label or name, identity, facts)
        return value

    def entry(self, name: str) -> Entry:
        """The entry of a name. Raises `KitError` on an unknown one, with those that are allowed."""
        if name not in self:
            raise UnknownName(f"{self.kind} = {name!r}: unknown; allowed: {', '.join(self._entries)}")
        return self._entries[name]

    def adopt(self, entry: Entry) -> None:
        """Take an entry of another process as it is, identity included."""
        self._load_builtins()
        self._entries[entry.name] = entry

    def forget(self, name: str) -> None:
        """Remove what a user registered."""
        self._entries.pop(name, None)

    def __getitem__(self, name: str) -> Any:
        return self.entry(name).value

    def __contains__(self, name: object) -> bool:
        self._load_builtins()
        return isinstance(name, str) and name in self._entries  # a name from a file may be anything

    def __iter__(self) -> Iterator[str]:
        self._load_builtins()
        return iter(self._entries)

    def __len__(self) -> int:
        self._load_builtins()
        return len(self._entries)

    def _load_builtins(self) -> None:
        if not self._complete:
            self._complete = True  # first: the modules below may look names up themselves
            import_module(self._home)
            _load_plugins()


@cache
def _load_plugins() -> None:
    """Once in a process: what installed packages and the environment ask for."""
    from sparcl_lite.plugins import load_installed

    load_installed()


def _is_builtin(value: Any) -> bool:
    module = getattr(value, "__module__", None) or type(value).__module__
    return module.partition(".")[0] == PACKAGE


DATASETS = Registry("dataset", "sparcl_lite.data.specs")
NETWORKS = Registry("network", "sparcl_lite.models.networks")
METHODS = Registry("method", "sparcl_lite.methods")
STRATEGIES = Registry("sparse.kind", "sparcl_lite.sparsity")
CLUSTERERS = Registry("method", "sparcl_lite.clustering.methods")
RULES = Registry("rule", "sparcl_lite.papers.judge")
#: The registry of each field of a run that is a name.
OF_FIELD = {"dataset": DATASETS, "network": NETWORKS, "method": METHODS, "sparse": STRATEGIES}


def entries_of(config: Any) -> dict[str, Entry]:
    """The entry of each part of a run, by the name of its field; parts that are not registered are left out."""
    names = {part: getattr(config, part) for part in OF_FIELD}
    names["sparse"] = getattr(names["sparse"], "kind", None)
    return {part: OF_FIELD[part].entry(name) for part, name in names.items() if name in OF_FIELD[part]}


def packed_for(config: Any) -> bytes:
    """What a run needs of what a user registered, code included, for a worker that does not have it: see `adopt`."""
    import cloudpickle

    entries = [(part, entry) for part, entry in entries_of(config).items() if entry.identity]
    for _, entry in entries:
        module = sys.modules.get(getattr(entry.value, "__module__", ""))
        if module is not None and module.__name__ != "__main__" and not is_installed(entry.value):
            cloudpickle.register_pickle_by_value(module)  # workers on other machines may not have the file
    for module in [m for m in sys.modules.values() if isinstance(m, ModuleType) and type(m) is not ModuleType]:
        copyreg.pickle(type(module), _by_name)  # `torch.classes`: any code with that name seems to use it
    return cloudpickle.dumps(entries)


def _by_name(module: ModuleType) -> tuple:
    return import_module, (module.__name__,)


def adopt(packed: bytes) -> None:
    """Take over what `packed_for` gave in another process of the same user."""
    import cloudpickle

    for part, entry in cloudpickle.loads(packed):
        OF_FIELD[part].adopt(entry)
