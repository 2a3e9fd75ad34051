"""``regwarden token``: tokens with which programs use the service, and who has signed in."""

from __future__ import annotations

from contextlib import closing
from typing import Final

import click

from regwarden.cli.invocation import Invocation, RegwardenGroup, pass_invocation
from regwarden.cli.output import Format
from regwarden.errors import InputError

_COLUMNS: Final = (
    "id",
    "name",
    "roles",
    "registries",
    "repositories",
    "expires_at",
    "last_used_at",
    "last_used_from",
    "made_at",
    "made_by",
)
_ENDED_COLUMNS: Final = ("revoked_at", "revoked_by")
_SESSION_COLUMNS: Final = ("id", "name", "kind", "provider", "made_at", "made_from", "refreshed_at", "expires_at")
_ENDED_SESSION_COLUMNS: Final = ("ended_at", "ended_reason")
_MADE_COLUMNS: Final = ("token", "id", "name", "grants", "expires_at")


@click.group(cls=RegwardenGroup)
def command() -> None:
    """Make, list and revoke the tokens with which programs use the service."""


@command.command()
@click.argument("name")
@click.option("--role", "roles", multiple=True, required=True, metavar="ROLE", help="May be repeated.")
@click.option("--registry", "registries", multiple=True, metavar="PATTERN", help="Only there. [default: everywhere]")
@click.option("--repository", "repositories", multiple=True, metavar="PATTERN", help="Only these. [default: all]")
@click.option("--expires", metavar="TIME", help="A date, or how long from now; at most 5 years. [default: 90d]")
@pass_invocation
def create(
    invocation: Invocation,
    name: str,
    roles: tuple[str, ...],
    registries: tuple[str, ...],
    repositories: tuple[str, ...],
    expires: str | None,
) -> None:
    """Make a token and print it. It is shown only now: what is kept can verify it, and not show it again.

    Roles: viewer, operator, cleaner, approver, admin.

    Examples:
      regwarden token create dashboard --role viewer
      regwarden token create ci-cleanup --role cleaner --repository 'glob:team/**' --expires 30d
    """
    with closing(invocation.inventory()) as inventory:
        made = inventory.create_token(
            name, roles=roles, registries=registries, repositories=repositories, expires=expires
        )
    if invocation.output == Format.TABLE:
        click.echo(made.token)
        invocation.printer.talk(f"{name} is valid until {made.expires_at:%Y-%m-%d}; its token is not shown again")
        return
    invocation.printer.rows([made], _MADE_COLUMNS)


@command.command("list")
@click.option("--sessions", "shows_sessions", is_flag=True, help="Who has signed in, instead.")
@click.option("--all", "is_all", is_flag=True, help="Also what has expired or was revoked.")
@pass_invocation
def list_(invocation: Invocation, *, shows_sessions: bool, is_all: bool) -> None:
    """List tokens and when they were last used; or who has signed in.

    Examples:
      regwarden token list
      regwarden token list --sessions
    """
    with closing(invocation.inventory()) as inventory:
        if shows_sessions:
            rows = inventory.sessions(include_ended=is_all)
            columns: tuple[str, ...] = (*_SESSION_COLUMNS, *_ENDED_SESSION_COLUMNS) if is_all else _SESSION_COLUMNS
        else:
            rows = inventory.tokens(include_ended=is_all)
            columns = (*_COLUMNS, *_ENDED_COLUMNS) if is_all else _COLUMNS
    nothing = "nobody is signed in" if shows_sessions else "there is no token"
    invocation.printer.rows(rows, columns, nothing=nothing)


@command.command()
@click.argument("name", required=False)
@click.option("--session", "session_id", metavar="ID", help="End this sign-in, instead.")
@pass_invocation
def revoke(invocation: Invocation, name: str | None, session_id: str | None) -> None:
    """Revoke a token, by its name or id, at once and for ever; or end a sign-in.

    Examples:
      regwarden token revoke ci-cleanup
      regwarden token revoke --session 5fQzA01bTt2R
    """
    if (name is None) == (session_id is None):
        raise InputError("it is not said what is to be revoked", hint="Give the name of a token, or --session ID.")
    with closing(invocation.inventory()) as inventory:
        if session_id is not None:
            inventory.end_session(session_id)
        else:
            inventory.revoke_token(str(name))
    invocation.printer.talk("the sign-in has ended" if session_id is not None else f"{name} is revoked")
