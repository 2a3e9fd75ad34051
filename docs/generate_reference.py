"""Writes the generated pages of the manual: ``python docs/generate_reference.py``. A test compares them."""  # noqa: INP001

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from regwarden.cli.main import cli
from regwarden.core.fields import ALIASES, FIELDS
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
    return "\n\n".join(parts) + "\n"


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
