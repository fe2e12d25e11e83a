"""The table that can be clicked."""

from sparcl_lite.explore.grid import Grid


def test_a_choice_is_told_once_and_forgotten_with_new_rows():
    grid, told = Grid(), []
    grid.on_choice(lambda row, column: told.append((row, column)))
    grid.show(["a"], [[("x", "tip", "")], [("y", "", "#fff")]], "two rows")
    grid.chosen = [1, 0]
    grid.show(["a"], [[("z", "", "")]])
    assert told == [(1, 0)]
    assert grid.chosen == []
    assert grid.rows == [[["z", "", ""]]]
