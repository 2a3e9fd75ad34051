"""``regwarden policy``: is a policy right, what does it say, and how is one written?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from regwarden.cli import policy_backtest, policy_explain, policy_import
from regwarden.cli.invocation import Invocation, RegwardenGroup, pass_invocation
from regwarden.cli.output import Format
from regwarden.errors import InputError

if TYPE_CHECKING:
    from regwarden.library_policy_texts import CheckedText

_COLUMNS: Final = ("file", "line", "column", "severity", "code", "message", "hint")
_STANDARD_INPUT: Final = "-"
_WRONG: Final = 2
_WARNED: Final = 1


@click.group(cls=RegwardenGroup)
def command() -> None:
    """Write and check the policies by which a registry is cleaned up."""


@command.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--strict", is_flag=True, help="Exit with status 1 if there are warnings.")
@pass_invocation
def check(invocation: Invocation, files: tuple[str, ...], strict: bool) -> int:
    """Check policy files: every mistake and every known trap, each with its place.

    A file may hold several policies, separated by ---; - is standard input. No registry and no database is asked. Exit
    status 0: usable; 1: there are warnings, and --strict is given; 2: something is wrong.

    Example: regwarden policy check --strict policies/ci.yaml
    """
    from regwarden.library_policy_texts import check_policy_text

    checked = [check_policy_text(_title(name), read_policy_file(name)) for name in files]
    if invocation.output == Format.TABLE:
        for one in checked:
            _say(invocation, one)
    else:
        rows = [row for one in checked for row in one.rows()]
        invocation.printer.rows(rows, _COLUMNS)
    if any(one.problems for one in checked):
        return _WRONG
    return _WARNED if strict and any(one.warnings for one in checked) else 0


@command.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@pass_invocation
def show(invocation: Invocation, files: tuple[str, ...]) -> None:
    """Say in plain English what policies do; with --output json print them with all their defaults.

    Example: regwarden policy show policies/ci.yaml
    """
    from regwarden.cli.values import escape_controls
    from regwarden.core.policy_description import describe
    from regwarden.core.policy_reading import parse_policies, write_policy_in_full
    from regwarden.library_policy_texts import known_zones

    policies = [
        one
        for name in files
        for one in parse_policies(read_policy_file(name), name=_title(name), known_zones=known_zones())
    ]
    if invocation.output == Format.JSON:
        import json

        click.echo(json.dumps([write_policy_in_full(policy) for policy in policies], indent=2))
        return
    if invocation.output != Format.TABLE:
        rows = [{"policy": policy.name, "sentence": text} for policy in policies for text in describe(policy)]
        invocation.printer.rows(rows, ("policy", "sentence"))
        return
    for number, policy in enumerate(policies):
        title, *sentences = describe(policy)
        click.echo(("\n" if number else "") + escape_controls(title))
        for sentence in sentences:
            click.echo(f"- {escape_controls(sentence)}")


@command.command()
def example() -> None:
    """Print a commented policy to begin with.

    Example: regwarden policy example > policy.yaml
    """
    from regwarden.library_policy_texts import policy_example

    click.echo(policy_example(), nl=False)


@command.command()
def schema() -> None:
    """Print the JSON schema of policies, with which editors complete and check them.

    Example: regwarden policy schema > policy.schema.json
    """
    from regwarden.library_policy_texts import policy_schema

    click.echo(policy_schema(), nl=False)


command.add_command(policy_import.command)
command.add_command(policy_explain.command)
command.add_command(policy_backtest.command)


def _say(invocation: Invocation, checked: CheckedText) -> None:
    """What compilers and editors understand: ``FILE:LINE:COLUMN: error: sentence``."""
    from regwarden.cli.values import escape_controls

    for row in checked.rows():
        place = f"{row['file']}:{row['line']}:{row['column']}"
        click.echo(escape_controls(f"{place}: {row['severity']}[{row['code']}]: {row['message']}"))
        if row["hint"]:
            click.echo(escape_controls(f"  hint: {row['hint']}"))
    if checked.problems:
        verdict = f"{len(checked.problems)} {'mistake' if len(checked.problems) == 1 else 'mistakes'}"
    else:
        names = ", ".join(policy.name for policy in checked.policies)
        verdict = f"correct; {'policy' if len(checked.policies) == 1 else 'policies'} {names}"
    count = len(checked.warnings)
    counted = f"; {count} {'warning' if count == 1 else 'warnings'}" if count else ""
    invocation.printer.talk(escape_controls(f"{checked.name}: {verdict}{counted}"))


def _title(name: str) -> str:
    return "standard input" if name == _STANDARD_INPUT else name


def read_policy_file(name: str) -> str:
    """The text of a file; one byte more than a policy may have is enough to see that it is too large."""
    from regwarden.core.policy_text import MAX_TEXT_BYTES

    try:
        if name == _STANDARD_INPUT:
            content = sys.stdin.buffer.read(MAX_TEXT_BYTES + 1)
        else:
            with Path(name).expanduser().open("rb") as file:
                content = file.read(MAX_TEXT_BYTES + 1)
    except OSError as error:
        reason = (error.strerror or "failed").lower()
        raise InputError(f"cannot read {name}: {reason}", hint="Check the name and the permissions.") from None
    if len(content) > MAX_TEXT_BYTES:
        raise InputError(f"{_title(name)} is larger than {MAX_TEXT_BYTES} bytes", hint="Split it into several files.")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InputError(f"{_title(name)}:{line}: this is not text in UTF-8", hint="Save it as UTF-8.") from None
