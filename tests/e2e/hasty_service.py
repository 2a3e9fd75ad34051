"""`regwarden`, but it waits seconds where the product waits ten, or a minute: for late events, before it measures.

    python hasty_service.py serve --config … --database …

What is waited for stays the same; a test would otherwise take a minute for each thing that moves twice.
"""

from __future__ import annotations

import importlib
from datetime import timedelta

SECOND = timedelta(seconds=1)
# In this order: what the later modules take from the first is its new value.
SHORTENED = (
    ("regwarden.core.history", "CRAWL_MARGIN", SECOND),
    ("regwarden.store.folded", "NEAR_CRAWL_DELAY", 2 * SECOND),
    ("regwarden.store.tag_publishing", "_REREAD_AFTER", SECOND),
    ("regwarden.store.drifts", "REREAD_AFTER", 2 * SECOND),
    ("regwarden.jobs.upkeep", "SIZE_EVERY_SECONDS", 1.0),
    ("regwarden.jobs.upkeep", "SIZE_AFTER_SECONDS", 0.5),
    ("regwarden.store.crawl_times", "_LATE", SECOND),
)

if __name__ == "__main__":
    for module_name, name, value in SHORTENED:
        module = importlib.import_module(module_name)
        if not hasattr(module, name):
            raise AttributeError(f"{module_name} has no {name}")
        setattr(module, name, value)
    importlib.import_module("regwarden.cli.main").main()
