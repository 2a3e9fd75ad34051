"""How does a loop sleep until its time has come, or until somebody wakes it?"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol

Sleep = Callable[[float], Awaitable[object]]


class Bell:
    """Rung once or many times, it wakes one sleeper once."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Wake whoever sleeps, now or the next time."""
        self._rung.set()

    def reset(self) -> None:
        """Forget having been rung: what that was about is looked at now."""
        self._rung.clear()

    async def wait(self, seconds: float, sleep: Sleep) -> None:
        """Sleep so long, or until rung."""
        if seconds <= 0 or self._rung.is_set():
            return
        tasks = [asyncio.ensure_future(sleep(seconds)), asyncio.ensure_future(self._rung.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task


class Loop(Protocol):
    """Work that comes round for ever; its name is its ``str``."""

    bell: Bell

    async def step(self) -> float:
        """Do what is due, if anything, and return after how many seconds to look again."""

    def recover(self, problem: str) -> None:
        """Be ready for another step after one that failed."""
