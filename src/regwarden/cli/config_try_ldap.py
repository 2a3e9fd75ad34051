"""``regwarden config try-ldap``: would this user get in, as whom, and with which roles?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from regwarden.cli.invocation import Invocation, RegwardenCommand, pass_invocation
from regwarden.errors import InputError

if TYPE_CHECKING:
    from regwarden.core.access import Grant
    from regwarden.core.role_rules import SignedIn
    from regwarden.settings_access import LdapSettings


@click.command("try-ldap", cls=RegwardenCommand)
@click.argument("user")
@click.option("--password-stdin", is_flag=True, help="Read the user's password from standard input.")
@pass_invocation
def command(invocation: Invocation, user: str, password_stdin: bool) -> int:
    """Sign in as USER with the directory of [ldap], and show what comes of it.

    Prints name, identity, groups and the roles that the rules of [[role]] give. Nothing is stored. Why somebody is
    refused is said here, not to those who sign in.

    Examples:
      regwarden config try-ldap alice
      regwarden config try-ldap alice --password-stdin < password

    Exit status: 0 they get in, 1 they do not.
    """
    from regwarden.cli.credentials import read_typed_password
    from regwarden.core.grants import grants_to_json
    from regwarden.core.role_rules import grants_for, parse_rule
    from regwarden.telemetry import configure_logging
    from regwarden.wiring import run_async

    settings = invocation.loaded.settings
    if not settings.ldap.servers:
        raise InputError("no directory is configured", hint='Add servers = ["ldaps://ldap.example.com"] to [ldap].')
    rules = [parse_rule(rule) for rule in settings.role]
    configure_logging(verbose=invocation.verbose, quiet=not invocation.verbose)
    who = run_async(_sign_in(invocation, settings.ldap, user, read_typed_password(user, is_in_stdin=password_stdin)))
    grants = grants_for(rules, who)
    record = _describe(who)
    if invocation.wants_json:
        invocation.printer.record({**record, "grants": grants_to_json(grants)})
    else:
        invocation.printer.record({**record, "roles": tuple(map(_in_words, grants))})
    if not grants:
        invocation.warn("no rule gives them a role: they cannot sign in")
        return 1
    return 0


async def _sign_in(invocation: Invocation, settings: LdapSettings, user: str, password: str) -> SignedIn:
    from regwarden.identity.ldap import open_directory
    from regwarden.identity.ldap_errors import DirectoryError, LoginRefused

    directory = open_directory(settings)
    try:
        return await directory.sign_in(user, password)
    except (DirectoryError, LoginRefused) as error:
        invocation.warn(error.diagnostics)
        raise
    finally:
        await directory.close()


def _describe(who: SignedIn) -> dict[str, Any]:
    return {
        "name": who.name,
        "display_name": who.display_name,
        "subject": who.subject,
        "dn": next(iter(who.claims.get("dn", ())), ""),
        "claims": {name: values for name, values in sorted(who.claims.items()) if name != "dn"},
        "groups": tuple(sorted(who.groups)),
        "may_refresh": bool(who.login),
    }


def _in_words(grant: Grant) -> str:
    places = [
        f"{noun} {', '.join(map(str, patterns))}"
        for noun, patterns in (("registries", grant.area.registries), ("repositories", grant.area.repositories))
        if patterns
    ]
    return f"{grant.role} in {' and '.join(places)}" if places else str(grant.role)
