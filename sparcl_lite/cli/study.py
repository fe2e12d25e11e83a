"""The command that begins a study of one's own: a folder with a notebook, a method, a place for data."""

import shutil
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated

import typer

from sparcl_lite.errors import KitError
from sparcl_lite.paths import folder

app = typer.Typer()


@app.command()
def init(place: Annotated[Path, typer.Argument(help="the folder to make", callback=folder)]) -> None:
    """A folder for a study of your own: a notebook, a file with your method, a place for images, a README.

    Example: sparcl-lite init my-study
    """
    with as_file(files("sparcl_lite") / "study") as template:
        try:
            shutil.copytree(template, place, ignore=shutil.ignore_patterns("__pycache__"))
        except FileExistsError:
            raise KitError(f"place = {place}: is there already; allowed: a folder that is not") from None
        except OSError as error:
            raise KitError(f"place = {place}: cannot be written ({error.strerror or error})") from None
    print(f"{place}: open {place / 'study.ipynb'} and run all cells; {place / 'README.md'} says what is what")
