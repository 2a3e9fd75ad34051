"""Doing many things at once with a bound, and failing with the error itself rather than with a group of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


async def each(work: Callable[[T], Awaitable[R]], values: Iterable[T], slots: asyncio.Semaphore) -> list[R]:
    """``work`` for every value, as many at once as there are slots; results in the order of the values.

    The first failure cancels the others and is raised as it is.
    """

    async def one(value: T) -> R:
        async with slots:
            return await work(value)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(value)) for value in values]
    except BaseExceptionGroup as failures:
        raise _first(failures) from None
    return [task.result() for task in tasks]


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    error = failures.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
