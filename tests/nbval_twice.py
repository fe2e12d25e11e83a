"""A plugin of the notebook comparison: every notebook runs twice in one kernel, and stderr is left out.

Both passes are compared with the stored outputs. stderr (warnings, progress bars) has no option in nbval. Runs go to an
empty store: those that somebody made in this checkout would change tables and verdicts.
"""

import tempfile

STORE = '"../build/store"'  # as the notebooks' cells of parameters have it


def pytest_configure(config):
    folder = tempfile.TemporaryDirectory(prefix="nbval-")
    config.add_cleanup(folder.cleanup)
    config.empty_store = folder.name


def pytest_collectstart(collector):
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += ("stderr",)
        once = collector.collect
        collector.collect = lambda: twice([in_empty_store(cell) for cell in once()])


def in_empty_store(cell):
    """The cell; one of parameters names a store that is empty at first."""
    if "parameters" in cell.cell.metadata.get("tags", []):
        assert STORE in cell.cell.source or "\nstore = " not in cell.cell.source, "runs would go elsewhere"
        cell.cell.source = cell.cell.source.replace(STORE, repr(cell.config.empty_store))
    return cell


def twice(cells):
    return [*cells, *map(again, cells)]


def again(cell):
    """The same cell once more; tests are told apart by their names."""
    return type(cell).from_parent(
        cell.parent, name=f"{cell.name} again", cell_num=cell.cell_num, cell=cell.cell, options=cell.options
    )
