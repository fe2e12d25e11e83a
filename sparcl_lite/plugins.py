"""Code of users that registers names: files, modules, and installed packages that ask for it."""

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterable
from importlib.metadata import entry_points

from sparcl_lite.errors import KitError
from sparcl_lite.paths import folder

VARIABLE = "SPARCL_LITE_PLUGINS"  # files or modules, separated as in $PATH
GROUP = "sparcl_lite.plugins"  # of entry points of installed packages


def load(plugins: Iterable[str]) -> None:
    """Import every file (`*.py`) or module once. Raises `KitError`, in one line, where one cannot be imported."""
    for plugin in plugins:
        try:
            _of_file(plugin) if plugin.endswith(".py") else importlib.import_module(plugin)
        except KitError:
            raise
        except (Exception, SystemExit) as error:  # whatever a user's code raises
            reason = " ".join(str(error).split())
            raise KitError(f"plugin = {plugin}: {type(error).__name__}: {reason}") from error


def load_installed() -> None:
    """Import what $SPARCL_LITE_PLUGINS names and what installed packages declare."""
    load(name for name in os.environ.get(VARIABLE, "").split(os.pathsep) if name)
    for point in entry_points(group=GROUP):
        load([point.module])


def _of_file(plugin: str):
    """The module of a file; the same file is the same module, also in a second call."""
    path = folder(plugin).resolve()
    if not path.is_file():
        raise KitError(f"plugin = {plugin}: no such file; allowed: a file that ends in .py, or a module's name")
    name = f"plugin:{path}"  # which no package has
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))  # files beside it can be imported
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.path.remove(str(path.parent))
    return module
