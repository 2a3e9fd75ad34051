"""``regwarden config``: which settings are in force, where they come from, and whether a file is right."""

from __future__ import annotations

import click

from regwarden.cli import config_import, config_try_ldap
from regwarden.cli.invocation import Invocation, RegwardenGroup, pass_invocation
from regwarden.cli.output import Format


@click.group(cls=RegwardenGroup)
def command() -> None:
    """Show, check or begin a configuration file."""


command.add_command(config_import.command)
command.add_command(config_try_ldap.command)


@command.command()
@pass_invocation
def show(invocation: Invocation) -> None:
    """Print every value in force and where it comes from; secrets are hidden.

    Example: regwarden config show --output json
    """
    from regwarden.cli.values import to_json_value
    from regwarden.settings_document import effective_rows

    rows = []
    for row in effective_rows(invocation.loaded):
        value = row.value if invocation.output == Format.JSON else _as_text(row.value)
        rows.append({"setting": row.setting, "value": to_json_value(value), "source": row.source})
    invocation.printer.rows(rows, ("setting", "value", "source"))


@command.command()
def default() -> None:
    """Print a complete, commented configuration file.

    Example: regwarden config default > regwarden.toml
    """
    from regwarden.settings_document import default_document

    click.echo(default_document(), nl=False)


@command.command()
@click.argument("file", required=False)
@pass_invocation
def check(invocation: Invocation, file: str | None) -> None:
    """Check a configuration file and the environment, without asking any registry.

    FILE is checked instead of the file in force. Exit status 0: all is well; 2: something is wrong.

    Example: regwarden config check regwarden.toml
    """
    import os
    from pathlib import Path

    from regwarden.settings_sources import read_secret, read_secret_file

    if file is not None:
        invocation.config = file
    loaded = invocation.loaded
    for registry in loaded.settings.registry:
        read_secret(registry, loaded, os.environ)
        if registry.gitlab_token_file:
            read_secret_file(Path(registry.gitlab_token_file).expanduser())
    if loaded.settings.ldap.bind_password_file:
        read_secret_file(Path(loaded.settings.ldap.bind_password_file).expanduser())
    names = ", ".join(registry.name for registry in loaded.settings.registry) or "none"
    source = loaded.file or "no configuration file, defaults and environment"
    invocation.printer.talk(f"{source}: correct; registries: {names}")


def _as_text(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
