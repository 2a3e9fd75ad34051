"""What do commands of the service work with, and what is a command?"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from regwarden.settings_sources import LoadedSettings
from regwarden.store.database import Database
from regwarden.web.control import Tell

A = TypeVar("A")


async def _nothing(command: str) -> None:
    """What follows a command where nobody keeps anything in memory."""


@dataclass(frozen=True, slots=True)
class ServiceContext:
    """What commands work with: the service's database, settings and environment.

    ``on_done`` is told the name of each command that succeeded, so that the service looks at what has changed before
    it answers.
    """

    database: Database
    loaded: LoadedSettings
    environ: Mapping[str, str] = field(repr=False)
    on_done: Callable[[str], Awaitable[None]] = _nothing


@dataclass(frozen=True, slots=True)
class Command(Generic[A]):
    """A command: the type of its arguments, and the function that does it and returns what the library returns."""

    arguments: type[A]
    run: Callable[[ServiceContext, A, Tell], Awaitable[Any]]
