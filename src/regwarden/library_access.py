"""What ``Inventory`` does about who may come in: tokens of programs, sign-ins of people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

from regwarden.library_principals import os_user
from regwarden.library_rows import Row

if TYPE_CHECKING:
    from regwarden.library_remote import ServiceCommand
    from regwarden.store.database import Database

T = TypeVar("T")


class AccessQuestions:
    """The part of ``Inventory`` that is about access."""

    def _read(self, work: Callable[[Any], T]) -> T:
        raise NotImplementedError

    def _write(self, work: Callable[[Database], T], command: ServiceCommand[T]) -> T:
        raise NotImplementedError

    def create_token(
        self,
        name: str,
        *,
        roles: Sequence[str],
        registries: Sequence[str] = (),
        repositories: Sequence[str] = (),
        expires: str | None = None,
    ) -> Row:
        """Make a token for a program, with these roles in these registries and repositories (patterns; none is all).

        ``expires`` is a date or how long from now, ``90d`` unless given. The field ``token`` is shown only here.
        Raises ``InputError`` (``bad-token-request``, ``bad-grant``), ``Conflict`` (``token-exists``).
        """
        from regwarden.core.grants import build_grants, grants_to_json
        from regwarden.library_remote import ServiceCommand
        from regwarden.library_tokens import TokenMade, make_token

        arguments: dict[str, Any] = {
            "name": name,
            "grants": grants_to_json(build_grants(roles, registries, repositories)),
            "expires": expires,
            "principal": os_user(),
        }
        command = ServiceCommand("token-create", arguments, TokenMade)
        return Row(asdict(self._write(lambda database: make_token(database, **arguments), command)))

    def tokens(self, *, include_ended: bool = False) -> list[Row]:
        """Tokens of programs, oldest first, with ``include_ended`` also expired and revoked ones."""
        from regwarden.library_tokens import find_tokens

        return [Row(one) for one in self._read(lambda found: find_tokens(found, include_ended=include_ended))]

    def revoke_token(self, name_or_id: str) -> None:
        """Revoke a token, at once and for ever. Raises ``NotFound`` (``unknown-token``)."""
        from regwarden.library_remote import ServiceCommand
        from regwarden.library_tokens import end_token

        principal = os_user()
        command = ServiceCommand("token-revoke", {"name": name_or_id, "principal": principal}, type(None))
        self._write(lambda database: end_token(database, name_or_id, principal), command)

    def sessions(self, *, include_ended: bool = False, principal: str | None = None) -> list[Row]:
        """Sign-ins of people and jobs, oldest first; of one principal, by its id (``ldap:…``, ``oidc:…``)."""
        from regwarden.library_tokens import find_sessions

        asked = {"include_ended": include_ended, "subject": principal}
        return [Row(one) for one in self._read(lambda found: find_sessions(found, **asked))]  # type: ignore[arg-type]  # the same names

    def end_session(self, session_id: str) -> None:
        """End a sign-in with all its tokens. Raises ``NotFound`` (``unknown-session``)."""
        from regwarden.library_remote import ServiceCommand
        from regwarden.library_tokens import end_session

        principal = os_user()
        command = ServiceCommand("session-end", {"id": session_id, "principal": principal}, type(None))
        self._write(lambda database: end_session(database, session_id, principal), command)
