"""The command line, `sparcl-lite`.

`--plugin FILE_OR_MODULE`, anywhere and repeatable, imports code that registers names. Results go to stdout, progress
to stderr; wrong input ends with one line on stderr and exit code 2. The commands are in `training`, `reports`,
`cells`, `runs`, `bench`, `upkeep` and `study`.
"""

import logging
import sys
import warnings
from importlib.metadata import version
from typing import Annotated

import typer
from pydantic import ValidationError

from sparcl_lite.cli import bench, cells, reports, runs, study, training, upkeep
from sparcl_lite.errors import KitError
from sparcl_lite.plugins import load

app = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Reproduce sparse continual learning: run, compare with the papers, judge their claims.\n\n"
    "--plugin FILE_OR_MODULE, repeatable, anywhere: imports your code that registers names.",
)
app.add_typer(training.app)
app.add_typer(reports.app)
app.add_typer(cells.app)
app.add_typer(runs.app)
app.add_typer(bench.app, name="bench")
app.add_typer(upkeep.names_app)
app.add_typer(upkeep.data_app, name="data")
app.add_typer(upkeep.store_app, name="store")
app.add_typer(study.app)
for commands in (training.app, reports.app, cells.app, runs.app, bench.app, study.app, *upkeep.APPS):
    for command in commands.registered_commands:  # the whole first sentence, where typer cuts it off
        command.short_help = " ".join(command.callback.__doc__.partition("\n\n")[0].split())

#: The base of what typer raises when it cannot read the arguments: click's class, or that of its own copy of click.
UsageError = typer.BadParameter.__base__


def _version(asked: bool) -> None:
    if asked:
        print(f"sparcl-lite {version('sparcl-lite')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """What stands before the command."""


def main() -> None:
    """Entry point: anything the user can mend ends with one line on stderr and exit code 2."""
    logging.basicConfig(format="%(message)s")  # on stderr
    logging.getLogger("sparcl_lite").setLevel(logging.INFO)
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
    try:
        sys.argv[1:], plugins = _without_plugins(sys.argv[1:])
        load(plugins)
        sys.exit(app(prog_name="sparcl-lite", standalone_mode=False))
    except UsageError as error:
        _fail(_usage(error, sys.argv[1:]))
    except ValidationError as error:
        from sparcl_lite.config import explain

        _fail(explain(error))
    except KitError as error:
        _fail(str(error))
    except OSError as error:  # of a file or a disk, where no command knows more to say
        _fail(f"{error.filename or 'a file'}: cannot be used ({error.strerror or error})")
    except (KeyboardInterrupt, typer.Abort):  # older versions of typer turn the first into the second
        sys.exit(130)


def _without_plugins(arguments: list[str]) -> tuple[list[str], list[str]]:
    """The arguments without `--plugin X`, which may stand anywhere, and every X."""
    rest, plugins, given = [], [], iter(arguments)
    for argument in given:
        name, _, value = argument.partition("=")
        if name != "--plugin":
            rest.append(argument)
        elif value or (value := next(given, "")):
            plugins.append(value)
        else:
            raise KitError("--plugin: needs a file or a module")
    return rest, plugins


def _usage(error: UsageError, arguments: list[str]) -> str:
    """What is wrong with the arguments: the option, its value and what is allowed."""
    message, parameter = error.format_message().rstrip("."), getattr(error, "param", None)
    command = error.ctx.command if error.ctx else None
    if hasattr(command, "commands"):
        return f"{message}; allowed: {', '.join(command.commands)}"
    if parameter is not None:
        value = _value_of(parameter.opts, arguments)
        return message + (f", got {value!r}" if value else "") + (f"; {parameter.help}" if parameter.help else "")
    if command:
        options = [option for p in command.params for option in p.opts if option.startswith("--")]
        return f"{message}; allowed: {', '.join([*options, '--help'])}"
    return message


def _value_of(options: list[str], arguments: list[str]) -> str | None:
    """The value that the command line gives an option, as it was written."""
    for argument, following in zip(arguments, [*arguments[1:], None], strict=True):
        name, equals, value = argument.partition("=")
        if name in options:
            return value if equals else following
    return None


def _fail(message: str) -> None:
    line = "".join(letter if letter.isprintable() else "?" for letter in " ".join(message.split()))
    print(f"sparcl-lite: {line}", file=sys.stderr)  # what is from a file steers no terminal
    sys.exit(2)
