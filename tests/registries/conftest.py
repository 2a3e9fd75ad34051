"""What do tests of the registry client share? Connectors that are closed, short waits, bare HTTP exchanges."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from regwarden.registries.client.limits import Limits
from regwarden.registries.client.settings import ClientSettings
from regwarden.registries.distribution.connector import DistributionConnector, open_connector

QUICK = Limits(request_timeout_seconds=5, retry_wait_seconds=0.05)
Connect = Callable[..., DistributionConnector]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Opens connectors by URL and settings; all are closed after the test."""
    opened: list[DistributionConnector] = []

    def open_to(url: str, limits: Limits = QUICK, **settings: Any) -> DistributionConnector:
        connector = open_connector(ClientSettings(url, **settings), limits)
        opened.append(connector)
        return connector

    yield open_to
    for connector in opened:
        await connector.close()
