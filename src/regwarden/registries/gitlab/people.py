"""Who are we at this GitLab? Asked once: the user, whether an administrator, what the token may do."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from regwarden import clock
from regwarden.errors import RegistryError
from regwarden.registries.gitlab.records import field_of, moment_of, text_of
from regwarden.registries.gitlab.rest import GitLabApi

_MAX_SCOPES: Final = 30
_KNOWN_SECONDS: Final = 900.0
_DELETING: Final = "api"


@dataclass(frozen=True, slots=True)
class Person:
    """Who a token belongs to. ``None`` is unknown; ``refusal`` is why the API does not take it, in words."""

    user: str = ""
    is_admin: bool | None = None
    scopes: tuple[str, ...] | None = None
    expires_at: datetime | None = None
    version: str = ""
    refusal: str = ""

    @property
    def may_write(self) -> bool | None:
        """Whether the scopes of the token allow deletions by the API."""
        return None if self.scopes is None else _DELETING in self.scopes


class People:
    """Asks who we are with the first question that needs it, and again after some minutes."""

    def __init__(self, api: GitLabApi, *, is_job: bool = False) -> None:
        self._api = api
        self._is_job = is_job  # a job's token is nobody, and not known outside its project
        self._person: Person | None = None
        self._ask_again_at = 0.0
        self._lock = asyncio.Lock()

    @property
    def is_somebody(self) -> bool:
        """Whether there is a token of a person, a project or a group."""
        return self._api.has_token and not self._is_job

    def forget_refusal(self) -> None:
        """Ask again with the next question, if the answer was a refusal: a service runs on for months."""
        if self._person is not None and self._person.refusal:
            self._person = None

    async def find(self) -> Person:
        """Who we are. Refusals are answers; raises temporary ``RegistryError``s only."""
        async with self._lock:
            if self._person is None or clock.monotonic() >= self._ask_again_at:
                self._person = await self._ask() if self.is_somebody else Person(is_admin=False)
                self._ask_again_at = clock.monotonic() + _KNOWN_SECONDS
            return self._person

    async def _ask(self) -> Person:
        refusal, user = "", None
        try:
            user = await self._api.get("user", object, subject="our own user")
        except RegistryError as error:
            if error.temporary:
                raise
            refusal = error.message
            if error.code == "login-failed":
                return Person(refusal=refusal)
        token = await self._try("personal_access_tokens/self", "our own token")
        about = await self._try("metadata", "GitLab's version")
        return Person(
            user=text_of(field_of(user, "username")),
            is_admin=None if user is None else field_of(user, "is_admin") is True,  # only administrators are told
            scopes=_scopes(field_of(token, "scopes")),
            expires_at=_end_of(field_of(token, "expires_at")),
            version=text_of(field_of(about, "version"))[:80],
            refusal=refusal,
        )

    async def _try(self, path: str, subject: str) -> object:
        try:
            return await self._api.get(path, object, subject=subject)
        except RegistryError as error:
            if error.temporary or error.code == "login-failed":
                raise
            return None


def _scopes(value: object) -> tuple[str, ...] | None:
    if not isinstance(value, list):
        return None
    return tuple(sorted({text_of(one)[:80] for one in value[:_MAX_SCOPES]} - {""}))


def _end_of(value: object) -> datetime | None:
    """When a token ends: at the beginning of the day, in UTC, that GitLab names."""
    text = text_of(value)
    return moment_of(f"{text}T00:00:00Z") if len(text) == len("2025-01-31") else moment_of(text)
