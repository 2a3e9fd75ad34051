"""Which fixtures every test may ask for, by concern."""

from __future__ import annotations

pytest_plugins = [
    "tests.fixtures.distribution_servers",
    "tests.fixtures.postgresql",
]
