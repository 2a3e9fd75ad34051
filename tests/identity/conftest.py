"""An identity provider that listens, and a clock that tests move."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest

from regwarden.identity.oidc import OidcProvider
from tests.identity_provider import NOW, IdentityProvider, running_provider


@dataclass
class Clock:
    """A time that passes when a test says so."""

    seconds: float = 0.0

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def oidc_clock() -> Clock:
    return Clock()


@pytest.fixture
async def sso() -> AsyncIterator[IdentityProvider]:
    async with running_provider() as provider:
        yield provider


ConnectTo = Callable[..., OidcProvider]


@pytest.fixture
async def connect(oidc_clock: Clock) -> AsyncIterator[ConnectTo]:
    """Our side of a provider, closed at the end."""
    opened: list[OidcProvider] = []

    def open_one(provider: IdentityProvider, *claim_names: str, **changes: Any) -> OidcProvider:
        one = OidcProvider(
            provider.settings(**changes), frozenset(claim_names), now=oidc_clock.now, monotonic=oidc_clock.monotonic
        )
        opened.append(one)
        return one

    yield open_one
    for one in opened:
        await one.close()
