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
from regwarden.registries.gitlab.connector import GitLabConnector
from regwarden.store.database import Access, Database, open_database

NAME = "sample"
Connector = DistributionConnector | GitLabConnector
# How to connect to the registries that stand behind a GitLab, by their addresses: see ``tests/behind_gitlab.py``.
BEHIND_GITLAB: dict[str, Callable[[Limits | None, Mapping[str, Any]], GitLabConnector]] = {}


class Inventory:
    """An open database and one registry that can be crawled into it."""

    def __init__(self, database: Database, connector: Connector, url: str, now: Callable[[], datetime]) -> None:
        self.database = database
        self.connector = connector
        self.url = url
        self.now = now
        self.fingerprint = "one"

    async def crawl(self, on_progress: CrawlProgress | None = None, **options: Any) -> CrawlReport:
        services = Services(self.database, self.now, {NAME: self.connector})
        kind = "gitlab" if isinstance(self.connector, GitLabConnector) else "distribution"
        target = RegistryTarget(NAME, self.url, kind, self.fingerprint)
        return await crawl(services, target, CrawlOptions(**options), on_progress)

    def rows(self, statement: Select[Any]) -> list[Mapping[str, Any]]:
        return self.database.read_now(
            lambda connection: [dict(row) for row in connection.execute(statement).mappings()]
        )


def open_connector_to(url: str, limits: Limits | None = None, **settings: Any) -> Connector:
    """A connector for the registry at ``url``: GitLab's, where a test was given such a one in place of another."""
    if url in BEHIND_GITLAB:
        return BEHIND_GITLAB[url](limits, settings)
    return open_connector(ClientSettings(url, **settings), limits)


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
    connector = open_connector_to(url, limits, **settings)
    database = open_database(database_url, access=Access.WRITE, create=True)
    try:
        yield Inventory(database, connector, url, now)
    finally:
        await connector.close()
        database.close()
