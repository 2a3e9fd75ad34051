"""How much may we ask of a registry, and how much may it make us take: sizes, times, rates, and the gate for them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from types import TracebackType
from typing import Final

from aiolimiter import AsyncLimiter

from regwarden import clock
from regwarden.errors import InputError, RegistryError

KIB: Final = 1024
MIB: Final = 1024 * KIB
_LEAST_RATE: Final = 0.001


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds for one registry. Rates are off when ``None``; ``request_budget`` counts retries and tokens too."""

    connections: int = 16
    requests_per_second: float | None = None
    received_bytes_per_second: int | None = None
    manifest_bytes: int = 4 * MIB
    page_bytes: int = 8 * MIB
    token_bytes: int = 64 * KIB
    error_bytes: int = 64 * KIB
    page_size: int = 1000
    request_timeout_seconds: float = 30.0
    connect_timeout_seconds: float = 10.0
    retries: int = 5
    retry_wait_seconds: float = 60.0
    request_budget: int | None = None


class Gate:
    """Lets requests through: at most so many at once, so many a second, none while the registry asks us to wait.

    Used with ``async with`` around each single request. A registry that throttles slows all requests, not only
    the one it refused.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._slots = asyncio.Semaphore(limits.connections)
        self._requests = _limiter(limits.requests_per_second)
        self._bytes = _limiter(limits.received_bytes_per_second)
        self._spent = 0
        self._open_at = 0.0
        self._refusals = 0

    async def __aenter__(self) -> None:
        await self._slots.acquire()
        try:
            self._spend()
            if self._open_at:
                await self._wait_until_open()
            if self._requests is not None:
                await self._requests.acquire()
        except BaseException:
            self._slots.release()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._slots.release()

    async def account(self, received_bytes: int) -> None:
        """Wait as the byte rate demands after ``received_bytes`` came in."""
        if self._bytes is None:
            return
        while received_bytes > 0:
            part = min(received_bytes, int(self._bytes.max_rate))
            await self._bytes.acquire(part)
            received_bytes -= part

    def throttle(self, wait_seconds: float | None) -> float:
        """The registry asked us to slow down; returns the seconds for which everything now waits."""
        self._refusals += 1
        if wait_seconds is None:
            wait_seconds = 0.5 * 2 ** min(self._refusals, 10)
        wait_seconds = min(wait_seconds, self._limits.retry_wait_seconds)
        self._open_at = max(self._open_at, clock.monotonic() + wait_seconds)
        return wait_seconds

    def relax(self) -> None:
        """The registry answered normally again."""
        self._refusals = 0

    async def _wait_until_open(self) -> None:
        while (remaining := self._open_at - clock.monotonic()) > 0:  # noqa: ASYNC110 - it may move meanwhile
            await asyncio.sleep(remaining)
        self._open_at = 0.0

    def _spend(self) -> None:
        budget = self._limits.request_budget
        if budget is not None and self._spent >= budget:
            raise RegistryError(
                f"the request budget of {budget} requests is used up",
                hint="Raise request_budget for this registry, or run again to continue.",
                code="request-budget",
                temporary=True,
            )
        self._spent += 1


def _limiter(rate: float | None) -> AsyncLimiter | None:
    if rate is None:
        return None
    if not rate >= _LEAST_RATE:
        raise InputError(f"{rate:g} a second is too slow", hint=f"Allow at least {_LEAST_RATE:g}, or do not limit it.")
    # Fractional rates need a longer window: the limiter cannot hold less than one request.
    return AsyncLimiter(rate, 1.0) if rate >= 1 else AsyncLimiter(1, 1.0 / rate)
