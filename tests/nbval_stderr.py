"""A plugin of the notebook comparison: leave out stderr (warnings, progress bars), for which nbval has no option."""


def pytest_collectstart(collector):
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += ("stderr",)
