"""What a flow needs, in one frozen record; ``wiring`` fills it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from regwarden.registries.api import Connector
from regwarden.store.database import Database


@dataclass(frozen=True, slots=True)
class Services:
    """The database, the clock, and the connector of each configured registry by name."""

    database: Database
    now: Callable[[], datetime]
    connectors: dict[str, Connector] = field(default_factory=dict)
