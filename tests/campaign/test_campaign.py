"""A short part of the campaign in every run of the tests, and what the table says where something fails."""

import warnings

import pytest

from campaign import bad_input, faults, kills, victims
from campaign.tally import Tally


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_few_kills_lose_nothing(tmp_path):
    tally = Tally()
    kills.run(tmp_path, tally, count=4, seed=17)
    assert sum(row["injected"] for row in tally.counts.values()) >= 4
    assert tally.failures == []


@pytest.mark.slow
def test_a_hundred_wrong_inputs_are_refused_in_one_line(tmp_path):
    tally = Tally()
    with warnings.catch_warnings():
        bad_input.run(tmp_path, tally, count=100, seed=17)
    assert set(tally.counts) == set(bad_input.KINDS)
    assert sum(row["injected"] for row in tally.counts.values()) == 100
    assert tally.failures == []


@pytest.mark.slow
def test_every_kind_of_fault_is_survived(tmp_path):
    tally = Tally()
    faults.faults(tmp_path, tally, count=1, seed=17)
    assert len(tally.counts) == 6 + faults.can_mount()
    assert tally.failures == []


def test_a_line_at_which_a_process_was_killed_does_not_count(tmp_path):
    victims.note(tmp_path / "diary", "finished 1234")
    with open(tmp_path / "diary", "a") as file:
        file.write("\nfinished 12")
    victims.note(tmp_path / "diary", "finished 5678")
    assert kills.lines(tmp_path / "diary") == ["finished 1234", "finished 5678"]
    assert kills.lines(tmp_path / "none") == []


def test_the_table_counts_each_failure_in_its_column(tmp_path):
    tally = Tally()
    tally.add("kill: training", injected=3)
    tally.add("kill: training", [("lost", "a result")], injected=2)
    assert tally.failed
    assert tally.markdown().splitlines()[2:] == [
        "| kill: training | 5 | 4 | 1 | 0 | 0 |",
        "| **all** | 5 | 4 | 1 | 0 | 0 |",
    ]
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- campaign -->\nold\n<!-- end campaign -->\nafter\n")
    tally.write(page, "Seed 1.")
    assert page.read_text().startswith("before\n<!-- campaign -->\n\nSeed 1.\n\n| fault |")
    assert "old" not in page.read_text()
    page.write_text("nothing")
    with pytest.raises(ValueError, match="has no block"):
        tally.write(page, "Seed 1.")
