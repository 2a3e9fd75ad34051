"""Which fixtures every test may ask for, by concern, and how properties are tried."""

from __future__ import annotations

import pytest
from hypothesis import settings

from tests.gitlab_double.modes import find_chosen_mode

pytest_plugins = [
    "tests.fixtures.directory",
    "tests.fixtures.distribution_servers",
    "tests.fixtures.gitlab_servers",
    "tests.fixtures.postgresql",
    "tests.fixtures.schema",
]

# How long one example takes depends on what else the machine does; each test as a whole has its time limit.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Behind a GitLab some tests make no sense: visible skips."""
    if (mode := find_chosen_mode()) is not None:
        from tests.gitlab_skips import skip_senseless

        skip_senseless(items, mode)
