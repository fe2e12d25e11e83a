"""JupyterLab on the notebooks, and headless Chromium looking at it. Skipped where there is no Chromium."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
SECONDS = 100  # that a page may take for one step on a busy machine
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def pytest_collection_modifyitems(items):
    """Every test here takes long: a kernel and a browser start first."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("no Chromium is installed (Debian, Ubuntu: apt-get install chromium)")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        made = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """The address of a JupyterLab on copies of the notebooks, whose runs go to a store of their own."""
    home = tmp_path_factory.mktemp("lab")
    for name in ("explore", "quickstart"):
        _copy(ROOT / "notebooks" / f"{name}.ipynb", home / "notebooks", home)
    settings = home / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps({"fetchNews": "false", "checkForUpdates": False}))
    port = _free_port()
    places = {f"JUPYTER_{what}_DIR": str(home / what.lower()) for what in ("CONFIG", "DATA", "RUNTIME")}
    environment = os.environ | places | {"IPYTHONDIR": str(home / "ipython"), "PYTHONPATH": str(ROOT)}
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
        "--IdentityProvider.token=", f"--ServerApp.root_dir={home / 'notebooks'}",
        f"--LabApp.user_settings_dir={home / 'settings'}", f"--LabApp.workspaces_dir={home / 'workspaces'}",
    ]  # fmt: skip
    with open(home / "lab.log", "w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait_for(f"http://127.0.0.1:{port}/api", home / "lab.log")
        yield SimpleNamespace(address=f"http://127.0.0.1:{port}", home=home)
    finally:
        server.terminate()
        try:
            server.wait(timeout=10)
        except subprocess.TimeoutExpired:  # it waits for kernels
            server.kill()


@pytest.fixture
def page(browser, tmp_path):
    """A page that collects what its console says of errors, in `errors`; how it ends is in `page.png`."""
    made = browser.new_page(viewport={"width": 1400, "height": 1600})
    made.set_default_timeout(1000 * SECONDS)
    made.errors = []
    made.on("console", lambda message: message.type == "error" and made.errors.append(message.text))
    made.on("pageerror", lambda error: made.errors.append(str(error)))
    yield made
    made.screenshot(path=tmp_path / "page.png")
    made.close()


def idle(page):
    """Wait until the kernel has nothing to do."""
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()


def open_notebook(page, lab, name):
    """Have the notebook of that name in the page, with its kernel ready."""
    page.goto(f"{lab.address}/lab/tree/{name}.ipynb?reset")
    page.wait_for_selector(".jp-Notebook .jp-CodeCell")
    idle(page)


def run_cells(page, count):
    """Execute the first so many cells."""
    page.locator(".jp-Notebook .jp-Cell").first.click()
    page.keyboard.press("Escape")
    for _ in range(count):
        page.keyboard.press("Shift+Enter")


def _copy(notebook, folder, home):
    """The notebook with a store and figures in `home` and the evidence of this checkout."""
    made = nbformat.read(notebook, as_version=4)
    (parameters,) = (cell for cell in made.cells if "parameters" in cell.metadata.get("tags", []))
    places = {"../build/store": home / "store", "../build/figures": home / "figures", "../results": ROOT / "results"}
    for old, new in places.items():
        assert f'"{old}"' in parameters.source
        parameters.source = parameters.source.replace(f'"{old}"', json.dumps(str(new)))
    folder.mkdir(exist_ok=True)
    nbformat.write(made, folder / notebook.name)


def _free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def _wait_for(address, log):
    end = time.monotonic() + SECONDS
    while True:
        try:
            return urllib.request.urlopen(address, timeout=5).read()
        except (urllib.error.URLError, OSError):
            assert time.monotonic() < end, f"JupyterLab did not start: {log.read_text()[-2000:]}"
            time.sleep(0.2)
