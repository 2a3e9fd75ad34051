"""Which fixtures every test may ask for, by concern, and how properties are tried."""

from __future__ import annotations

from hypothesis import settings

pytest_plugins = [
    "tests.fixtures.directory",
    "tests.fixtures.distribution_servers",
    "tests.fixtures.postgresql",
]

# How long one example takes depends on what else the machine does; each test as a whole has its time limit.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
