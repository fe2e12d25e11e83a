"""Waiting for what a view shows."""

import time

import pytest


@pytest.fixture
def wait():
    """Wait until a condition holds, two minutes at most."""

    def until(condition):
        end = time.monotonic() + 120
        while not condition():
            assert time.monotonic() < end, "nothing has happened for two minutes"
            time.sleep(0.01)

    return until
