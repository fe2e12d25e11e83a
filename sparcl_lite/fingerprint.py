"""A hash of what a user's code does: of a class or function, and of all that it names in files that are not installed.

Comments and line numbers of other code do not matter. Two processes that hold the same source agree.
"""

import hashlib
import inspect
import sys
import sysconfig
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

LENGTH = 16
_INSTALLED = tuple({sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib")})
_PACKAGE = Path(__file__).parent


def fingerprint(*values: Any) -> str:
    """Hexadecimal digits that change with the source of the values, or of what they use."""
    digest, seen = hashlib.sha256(), set()
    for value in values:
        for part in _parts(value, seen):
            digest.update(part.encode() + b"\0")
    return digest.hexdigest()[:LENGTH]


def _parts(value: Any, seen: set[int]) -> Iterator[str]:
    """Texts that say what a value is, those of what it refers to included; each object once."""
    value = inspect.unwrap(value) if callable(value) else value
    value = getattr(value, "__func__", value)  # of methods, static and class methods
    if isinstance(value, property):
        for function in (value.fget, value.fset):
            yield from _parts(function, seen)
    elif isinstance(value, ModuleType):
        yield _source_of_module(value)
    elif not isinstance(value, type | FunctionType):
        yield _constant(value)
    elif is_installed(value):
        yield f"{value.__module__}.{value.__qualname__}"
    elif id(value) not in seen:
        seen.add(id(value))
        yield value.__qualname__
        yield from _of_class(value, seen) if isinstance(value, type) else _of_function(value, seen)


def _of_class(value: type, seen: set[int]) -> Iterator[str]:
    for base in value.__bases__:
        yield from _parts(base, seen)
    yield repr(sorted((name, str(kind)) for name, kind in getattr(value, "__annotations__", {}).items()))
    yield repr(sorted(getattr(value, "model_fields", {}).items()))
    for name, member in sorted(vars(value).items()):
        known = isinstance(member, FunctionType | property | classmethod | staticmethod | type)
        if known or not name.startswith("_"):
            yield name
            yield from _parts(member, seen)


def _of_function(value: FunctionType, seen: set[int]) -> Iterator[str]:
    yield _source(value)
    yield repr(value.__defaults__) + repr(value.__kwdefaults__)
    for cell in value.__closure__ or ():
        if not _is_empty(cell):
            yield from _parts(cell.cell_contents, seen)
    for name in sorted(_names(value.__code__)):
        if name in value.__globals__:
            yield name
            yield from _parts(value.__globals__[name], seen)


def _source(function: FunctionType) -> str:
    try:
        return textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):  # typed at a prompt, or made by `exec`
        return "".join(
            repr((code.co_code, code.co_names, _plain(code.co_consts))) for code in _codes(function.__code__)
        )


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _plain(constants: tuple) -> list:
    return [constant for constant in constants if not isinstance(constant, CodeType)]


def _names(code: CodeType) -> set[str]:
    return {name for each in _codes(code) for name in each.co_names}


def _is_empty(cell: Any) -> bool:
    try:
        return cell.cell_contents is None
    except ValueError:  # a function that refers to itself, while it is being made
        return True


def is_installed(value: Any) -> bool:
    """Whether it is of this package, of Python or of an installed one: their versions are not a user's business."""
    module = sys.modules.get(value.__module__)
    file = getattr(module, "__file__", None)
    if file is None:
        return value.__module__ not in ("__main__", None) and module is not None
    return _PACKAGE in Path(file).parents or file.startswith(_INSTALLED)


def _source_of_module(module: ModuleType) -> str:
    file = getattr(module, "__file__", None)
    installed = file is None or _PACKAGE in Path(file).parents or file.startswith(_INSTALLED)
    return module.__name__ if installed else Path(file).read_text(encoding="utf-8")


def _constant(value: Any) -> str:
    """A value in words that are the same in every process: no addresses."""
    text = repr(value)
    return type(value).__qualname__ if " at 0x" in text else text
