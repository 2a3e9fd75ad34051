"""Crawling a registry into a database inside a test, without settings or command line."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import Select

from regwarden import clock
from regwarden.flows.crawl import CrawlOptions, CrawlProgress, CrawlReport, RegistryTarget, crawl
from regwarden.flows.services import Services
from regwarden.registries.client.limits import Limits
from regwarden.registries.client.settings import ClientSettings
from regwarden.registries.distribution.connector import DistributionConnector, open_connector
from regwarden.store.database import Access, Database, open_database

NAME = "sample"


class Inventory:
    """An open database and one registry that can be crawled into it."""

    def __init__(
        self, database: Database, connector: DistributionConnector, url: str, now: Callable[[], datetime]
    ) -> None:
        self.database = database
        self.connector = connector
        self.url = url
        self.now = now
        self.fingerprint = "one"

    async def crawl(self, on_progress: CrawlProgress | None = None, **options: Any) -> CrawlReport:
        services = Services(self.database, self.now, {NAME: self.connector})
        target = RegistryTarget(NAME, self.url, endpoint_fingerprint=self.fingerprint)
        return await crawl(services, target, CrawlOptions(**options), on_progress)

    def rows(self, statement: Select[Any]) -> list[Mapping[str, Any]]:
        return self.database.read_now(
            lambda connection: [dict(row) for row in connection.execute(statement).mappings()]
        )


@asynccontextmanager
async def open_inventory(
    url: str,
    database_url: str = ":memory:",
    *,
    limits: Limits | None = None,
    now: Callable[[], datetime] = clock.now,
    **settings: Any,
) -> AsyncIterator[Inventory]:
    """An inventory of the registry at ``url``; everything is closed at the end."""
    connector = open_connector(ClientSettings(url, **settings), limits)
    database = open_database(database_url, access=Access.WRITE, create=True)
    try:
        yield Inventory(database, connector, url, now)
    finally:
        await connector.close()
        database.close()
