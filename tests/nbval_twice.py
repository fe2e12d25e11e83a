"""A plugin of the notebook comparison: every notebook runs twice in one kernel, and stderr is left out.

Both passes are compared with the stored outputs. stderr (warnings, progress bars) has no option in nbval.
"""


def pytest_collectstart(collector):
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += ("stderr",)
        once = collector.collect
        collector.collect = lambda: [*once(), *map(again, once())]


def again(cell):
    """The same cell once more; tests are told apart by their names."""
    return type(cell).from_parent(
        cell.parent, name=f"{cell.name} again", cell_num=cell.cell_num, cell=cell.cell, options=cell.options
    )
