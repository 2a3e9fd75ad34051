"""Writes the generated pages of the manual: ``python docs/generate_reference.py``. A test compares them."""  # noqa: INP001

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from regwarden.cli.main import cli
from regwarden.core.conditions import operators_of
from regwarden.core.fields import ALIASES, FIELDS, FieldType
from regwarden.settings_document import reference_page

_FOLDER = Path(__file__).parent / "reference"
_WIDTH = 100
_CLI_HEADER = """\
# Command line

Results go to standard output, everything else to standard error. Common options are accepted before and after the
command. Every list understands the same options; the fields are explained in [fields](fields.md), settings in
[settings](settings.md), exit statuses and error codes in [errors](errors.md)."""
_FIELDS_HEADER = """\
# Fields

The same names everywhere: JSON, CSV, `--columns`, `--where`, `--sort` and the Python library. Sizes are bytes, times
are UTC, what is not known is `null` in JSON and empty in CSV."""

_OPERATORS_FOOTER = """\
What is unknown meets no condition but `= unknown`; `--include-unknown` takes it in. A value may stand in quotes.

- Times are compared with a moment (`created >= 2026-01-31`) or with an age: `created < 30d` is younger than 30 days.
- Texts have no order: `tag >= 1.0` is refused. Versions are compared as `tag ~ 'semver:>=1.0'` or
  `tag ~ 'loose:<1.4'`.
- After `~` stands a pattern: `glob:`, `re:`, `semver:`, `loose:` or `start:`; a bare text is a regular
  expression that is found anywhere. In a glob `*` stops at `/`, and `**` does not: `repository ~ glob:team/*` does not
  find `team/app/web`.
- Fields that join several values by commas, such as `platforms` and `tags`, are best asked with `contains`:
  `platforms contains linux/arm64`. A glob would have to fit the whole text."""


def pages() -> dict[str, str]:
    """The text of each generated page by its file name."""
    return {"cli.md": cli_page(), "fields.md": fields_page(), "settings.md": reference_page()}


def cli_page() -> str:
    """Every command with its help as the program prints it."""
    parts = [_CLI_HEADER]
    for path, text in _helps(cli, "regwarden"):
        parts.append(f"{'#' * (path.count(' ') + 2)} {path}\n\n```text\n{text.rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


def fields_page() -> str:
    """What every list can show, compare and sort by."""
    names = ", ".join(f"`{alias}` means `{'` or `'.join(targets)}`" for alias, targets in ALIASES.items())
    parts = [_FIELDS_HEADER, f"Short names in conditions and sorting: {names}."]
    for noun, fields in FIELDS.items():
        rows = [f"| `{field.name}` | {field.type} | {field.help} |" for field in fields.values()]
        parts.append(f"## {noun}\n\n| field | type | meaning |\n|---|---|---|\n" + "\n".join(rows))
    return "\n\n".join([*parts, "## Operators", _operators(), _OPERATORS_FOOTER]) + "\n"


def _operators() -> str:
    """What each type of field is compared with."""
    rows = [f"| {kind} | {' '.join(f'`{sign}`' for sign in operators_of(kind))} |" for kind in FieldType]
    return "| type | operators |\n|---|---|\n" + "\n".join(rows)


def _helps(command: click.Command, name: str, parent: click.Context | None = None) -> Iterator[tuple[str, str]]:
    """The path and the help text of a command and of everything below it."""
    context = click.Context(
        command, info_name=name, parent=parent, terminal_width=_WIDTH, help_option_names=["-h", "--help"]
    )
    yield context.command_path, command.get_help(context)
    if isinstance(command, click.Group):
        for child_name in command.list_commands(context):
            child = command.get_command(context, child_name)
            if child is not None:
                yield from _helps(child, child_name, context)


if __name__ == "__main__":
    for name, text in pages().items():
        (_FOLDER / name).write_text(text, encoding="utf-8")
