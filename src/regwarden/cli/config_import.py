"""``regwarden config import``: a configuration file from what another tool was started with."""

from __future__ import annotations

from pathlib import Path

import click

from regwarden.cli.invocation import Invocation, RegwardenCommand, RegwardenGroup, pass_invocation
from regwarden.errors import InputError


@click.group("import", cls=RegwardenGroup)
def command() -> None:
    """Make a configuration file from another tool's settings."""


@command.command(cls=RegwardenCommand, context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[FILE | -- FLAGS...]")
@click.option("--output-file", metavar="FILE", help="Write to a new file instead of standard output.")
@pass_invocation
def regstat(invocation: Invocation, words: tuple[str, ...], output_file: str | None) -> None:
    """Print the configuration that does what regstat's flags did.

    FILE holds regstat's command line, in a shell's form or as a container's ENTRYPOINT; or give the flags after --. The
    files that the flags name are read where they say.

    Example: regwarden config import regstat -- -port 3333 -equiv-registries equiv-registries.json
    """
    from regwarden.core.regstat_flags import build_document, parse_equivalents, parse_regstat_flags, split_command_line
    from regwarden.store.addresses import parse_database_address, without_password

    if words and not words[0].startswith("-"):
        words = (*split_command_line(_read(words[0])), *words[1:])
    flags = parse_regstat_flags(words)
    database, had_password = without_password(parse_database_address(flags.connection))
    equivalents = parse_equivalents(_read(flags.equivalents_file)) if flags.equivalents_file else {}
    document = build_document(flags, database, equivalents)
    _put_out(invocation, document, output_file)
    if had_password:
        invocation.warn("the database's password was left out; give it in ~/.pgpass, PGPASSFILE or PGPASSWORD")
    invocation.warn("the listener takes events from anybody, as regstat did; the file says how to close it")


@command.command(cls=RegwardenCommand, context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[FILE | -- FLAGS...]")
@click.option("--output-file", metavar="FILE", help="Write to a new file instead of standard output.")
@pass_invocation
def imagelist(invocation: Invocation, words: tuple[str, ...], output_file: str | None) -> None:
    """Print the configuration that does what imagelist's flags and environment did.

    FILE holds imagelist's command line or environment, in the form of a shell, a unit file or a container recipe; or
    give NAME=VALUE and the flags after --.

    Example: regwarden config import imagelist -- --listen :8000 --tokens-file /etc/imagelist/tokens.yaml
    """
    from regwarden.core.imagelist_flags import build_document, is_assignment, parse_imagelist_flags, split_lines
    from regwarden.store.addresses import parse_database_address, without_password

    lines = [list(words)]
    if words and not words[0].startswith("-") and not is_assignment(words[0]):
        lines = [*split_lines(_read(words[0])), list(words[1:])]
    flags = parse_imagelist_flags(lines)
    database, _ = without_password(parse_database_address(flags.connection))
    _put_out(invocation, build_document(flags, database), output_file)
    invocation.warn("the database's password was left out; give it in ~/.pgpass, PGPASSFILE or PGPASSWORD")
    if flags.tokens_file:
        invocation.warn("anybody can read the list, as with imagelist; the file says how to close it")
    else:
        invocation.warn("anybody can read and write the list, as with imagelist; the file says how to close it")


@command.command("gitlab-registry-usage-rest", cls=RegwardenCommand)
@click.argument("file", metavar="FILE")
@click.option("--output-file", metavar="FILE", help="Write to a new file instead of standard output.")
@pass_invocation
def gitlab_registry_usage_rest(invocation: Invocation, file: str, output_file: str | None) -> None:
    """Print the configuration that does what gitlab-registry-usage-rest's did.

    FILE is its configuration file. Secrets are neither printed nor taken over.

    Example: regwarden config import gitlab-registry-usage-rest /etc/gitlab_registry_usage_rest.conf
    """
    from regwarden.core.gitlab_rest_settings import import_gitlab_rest_settings

    imported = import_gitlab_rest_settings(_read(file))
    _put_out(invocation, imported.document, output_file)
    for warning in imported.warnings:
        invocation.warn(warning)


def _put_out(invocation: Invocation, document: str, output_file: str | None) -> None:
    if output_file is None:
        click.echo(document, nl=False)
    else:
        _write_new(Path(output_file), document)
        invocation.printer.talk(f"written to {output_file}; check it with: regwarden config check {output_file}")


def _read(name: str) -> str:
    try:
        return Path(name).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror or "failed").lower() if isinstance(error, OSError) else "it is not text in UTF-8"
        raise InputError(f"cannot read {name}: {reason}", hint="Check the name and the permissions.") from None


def _write_new(path: Path, document: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(document)
    except FileExistsError:
        hint = "Name another file; an existing one is never overwritten."
        raise InputError(f"{path} is there already", hint=hint) from None
    except OSError as error:
        message = f"cannot write {path}: {(error.strerror or 'failed').lower()}"
        raise InputError(message, hint="Name another file.") from None
