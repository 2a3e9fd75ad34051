"""`regwarden`, but it kills itself with SIGKILL when it comes by a point for the n-th time.

    python failing_service.py POINT N serve --config … --database …

Nothing in the product knows of this: the functions at the points are wrapped here. ``page-limit`` is no such point:
while a file FULL lies beside the database, the database cannot grow.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from regwarden.cli.main import main

PAGE_LIMIT = "page-limit"
FULL = "FULL"


class Point(NamedTuple):
    """A function, and whether the process dies before or after it. What did nothing is not counted."""

    function: str
    is_before: bool = False
    is_counted: Callable[[Any], bool] = lambda _result: True


POINTS = {
    "migrated-before-commit": Point("regwarden.store.migrations:_upgrade"),
    "body-read": Point("regwarden.web.bodies:BodyReader.read"),
    "before-insert": Point("regwarden.flows.intake:insert_deliveries", is_before=True),
    "inserted-before-commit": Point("regwarden.flows.intake:insert_deliveries"),
    "committed-before-answer": Point("regwarden.flows.intake:Intake.store"),
    "answered": Point("regwarden.web.hooks:Hooks.__call__"),
    "taken": Point("regwarden.store.applying:_take", is_counted=bool),
    "events-inserted": Point("regwarden.store.applying:insert_new_events"),
    "state-changed": Point("regwarden.store.applying:apply_changes"),
    "marked-before-commit": Point("regwarden.store.applying:_mark"),
    "applied": Point("regwarden.flows.ingest:Applier._apply_piece", is_counted=lambda one: one.delivery_count > 0),
    "published-before-commit": Point("regwarden.store.publishing:_run"),
    "between-pieces-of-a-reading": Point("regwarden.store.publishing:_run", is_before=True),
    "purged-before-commit": Point("regwarden.store.purging:_delete_ids"),
    "between-pieces-of-a-purge": Point("regwarden.store.purging:_find_old", is_before=True),
    "replayed-before-commit": Point("regwarden.library_replay:_set_pending"),
    "intent-written": Point("regwarden.flows.apply_steps:_send", is_before=True),
    "deletion-answered": Point("regwarden.flows.apply_steps:_send"),
    "outcome-written": Point("regwarden.flows.apply_steps:_end"),
    "replayed-before-applied": Point("regwarden.library_replay:build_folding", is_before=True),
}


def install(point: Point, count: int) -> None:
    """Wrap the function of ``point``, so that passing it for the ``count``-th time is the end."""
    module, _, path = point.function.partition(":")
    owner: Any = importlib.import_module(module)
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    original = getattr(owner, name)
    passed = 0

    def reach() -> None:
        nonlocal passed
        passed += 1
        if passed == count:
            os.kill(os.getpid(), signal.SIGKILL)

    @functools.wraps(original)
    def failing(*arguments: Any, **options: Any) -> Any:
        if point.is_before:
            reach()
            return original(*arguments, **options)
        result = original(*arguments, **options)
        if point.is_counted(result):
            reach()
        return result

    @functools.wraps(original)
    async def failing_coroutine(*arguments: Any, **options: Any) -> Any:
        result = await original(*arguments, **options)
        if point.is_counted(result):
            reach()
        return result

    setattr(owner, name, failing_coroutine if inspect.iscoroutinefunction(original) else failing)


def limit_pages() -> None:
    """Let the database be full as long as the file says so."""
    ours: Any = importlib.import_module("regwarden.store.sqlite")
    library: Any = sqlite3
    connect = ours._connect

    class Limited(sqlite3.Connection):
        file = ""

        def cursor(self, *arguments: Any) -> Any:
            is_full = Path(self.file).with_name(FULL).exists()
            (pages,) = super().execute("PRAGMA page_count").fetchone()
            super().execute(f"PRAGMA max_page_count = {pages if is_full else 1_000_000}")
            return super().cursor(*arguments)

    def limited(name: str, *, is_uri: bool, settings: tuple[str, ...] = ()) -> Any:
        if is_uri:
            return connect(name, is_uri=is_uri, settings=settings)
        original = library.connect
        library.connect = functools.partial(original, factory=Limited)
        try:
            connection = connect(name, is_uri=is_uri, settings=settings)
        finally:
            library.connect = original
        connection.file = name
        return connection

    ours._connect = limited


if __name__ == "__main__":
    name, number, *arguments = sys.argv[1:]
    if name == PAGE_LIMIT:
        limit_pages()
    elif name:
        install(POINTS[name], int(number))
    sys.argv = ["regwarden", *arguments]
    main()
