"""Writes the generated pages of the manual: ``python docs/generate_reference.py``. A test compares them."""  # noqa: INP001

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from regwarden.cli.main import cli
from regwarden.core.conditions import operators_of
from regwarden.core.fields import ALIASES, FIELDS, FieldType
from regwarden.core.policy_lint_codes import WARNINGS
from regwarden.core.policy_schema import build_schema, build_tables, default_text
from regwarden.settings_document import reference_page

_FOLDER = Path(__file__).parent / "reference"
_SCHEMA = Path(__file__).parent.parent / "src" / "regwarden" / "core" / "policy.schema.json"
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
- After `~` stands a pattern: `glob:`, `re:`, `semver:`, `date:`, `loose:` or `start:`; a bare text is a regular
  expression that is found anywhere. In a glob `*` stops at `/`, and `**` does not: `repository ~ glob:team/*` does not
  find `team/app/web`.
- Fields that join several values by commas, such as `platforms` and `tags`, are best asked with `contains`:
  `platforms contains linux/arm64`. A glob would have to fit the whole text."""

_REPORTS_HEADER = """\
## Events, pulls, history and growth

The columns of lists that have options of their own instead of `--where` and `--columns`; those explained above mean the
same here."""
# What is reported: its columns that no list above has, with their types and meanings.
_REPORTS = {
    "event list, event tail": (
        ("id", "count", "Number in the order in which the events were taken in."),
        ("at", "time", "When it happened, by the registry's clock; never later than it was received."),
        ("action", "text", "push, pull, mount, delete or rename."),
        ("target", "text", "manifest, blob, tag, repository, or content: deleted, and nobody says which."),
        ("pull_class", "text", "Who pulled: workload, ci, human, scanner, replicator, crawler or other."),
        ("method", "text", "The request's: GET, HEAD, PUT, DELETE, …"),
        ("actor", "text", "Name of the user, where the registry sends it."),
        ("user_agent", "text", "What the client calls itself."),
        ("address", "text", "Where the request came from, as the registry saw it."),
        ("host", "text", "The registry as the client called it."),
        ("other_repository", "text", "Mounted from, or renamed to."),
        ("received_at", "time", "When the delivery was received."),
        ("sent_at", "time", "The registry's time, where that was later than it was received."),
        ("request_id", "text", "The registry's number of the request."),
        ("instance_id", "text", "The registry process that sent it."),
        ("event_id", "text", "As sent, or made from the content."),
        ("delivery_id", "count", "The delivery that brought it: `event quarantine show`."),
        ("state", "text", "applied, or unknown-registry."),
    ),
    "event quarantine list, event quarantine show": (
        ("id", "count", "Number of the delivery."),
        ("received_at", "time", "When it was received."),
        ("sender", "text", "The address that it came from."),
        ("state", "text", "quarantined, or unknown-registry."),
        ("reason", "text", "Why it was set aside."),
        ("body_bytes", "bytes", "Size of the body as it was sent."),
        ("event_count", "count", "Events in it that were applied."),
        ("body_sha256", "text", "SHA-256 of the whole body, where only its beginning is kept."),
        ("body", "text", "The body; `null` if it is no longer kept."),
    ),
    "pull list": (
        ("pull_class", "text", "Who pulled, with `--by class`."),
        ("method", "text", "GET or HEAD, with `--by method`."),
        ("day", "date", "The day in UTC, with `--by day`."),
        ("pull_count", "count", "Requests: those that named the tag and those by digest."),
        ("named_count", "count", "Requests that named the tag."),
        ("digest_count", "count", "Requests by digest, counted for every tag that led there that day."),
        ("last_at", "time", "The last request."),
    ),
    "tag history": (
        ("since", "time", "From when on it pointed there."),
        ("until", "time", "Until when; `null`: it still does."),
        ("state", "text", "ok, or gone: it pointed to nothing."),
        ("cause", "text", "How that is known: event or crawl."),
    ),
    "usage --growth": (
        ("day", "date", "The day in UTC, with `--by week` or `--by month` the last one with figures."),
        ("tag_count_change", "count", "Since the row before; `null` in the first."),
        ("manifest_count_change", "count", "Since the row before; `null` in the first."),
        ("logical_change_bytes", "bytes", "Since the row before; `null` in the first."),
        ("stored_change_bytes", "bytes", "Since the row before; `null` in the first."),
    ),
}

_CLAUSES_HEADER = """\
# Clauses of policies

Every map of the language with its clauses, beginning with the document itself. What they mean together is told in
[policies](policies.md). A default in the table is in effect where the clause is left out; `required` ones cannot be."""
_LINT_HEADER = """\
# Warnings about policies

`regwarden policy check` warns of what is allowed and yet often a mistake. A warning never changes what a policy does.
`--strict` makes the command end with status 1 where there is one."""


def pages() -> dict[str, str]:
    """The text of each generated page by its file name."""
    return {"cli.md": cli_page(), "fields.md": fields_page(), "settings.md": reference_page(), **policy_pages()}


def policy_pages() -> dict[str, str]:
    """The clauses of the policy language, and the warnings about policies."""
    parts = [_CLAUSES_HEADER]
    for name, purpose, clauses in build_tables():
        rows = []
        for one in clauses:
            kind = one.shape.title.replace("|", "\\|")
            default = "required" if one.is_required else f"`{text}`" if (text := default_text(one)) else ""
            rows.append(f"| `{one.key}` | {kind} | {default} | {one.help} |")
        table = "| clause | written as | default | meaning |\n|---|---|---|---|\n" + "\n".join(rows)
        parts.append(f"## {name}\n\n{purpose}\n\n{table}")
    rows = [f"| `{code}` | {reason} |" for code, reason in sorted(WARNINGS.items())]
    lint = "\n\n".join([_LINT_HEADER, "| code | why it matters |\n|---|---|\n" + "\n".join(rows)])
    return {"policy-clauses.md": "\n\n".join(parts) + "\n", "policy-lint.md": lint + "\n"}


def schema_text() -> str:
    """The JSON schema of policies, as it is published in the package."""
    return json.dumps(build_schema(), indent=2) + "\n"


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
        parts.append(f"## {noun}\n\n" + _table((field.name, field.type, field.help) for field in fields.values()))
    reports = [f"### {name}\n\n{_table(rows)}" for name, rows in _REPORTS.items()]
    return "\n\n".join([*parts, _REPORTS_HEADER, *reports, "## Operators", _operators(), _OPERATORS_FOOTER]) + "\n"


def _table(fields: Iterable[tuple[str, str, str]]) -> str:
    rows = [f"| `{name}` | {kind} | {meaning} |" for name, kind, meaning in fields]
    return "\n".join(["| field | type | meaning |", "|---|---|---|", *rows])


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
    _SCHEMA.write_text(schema_text(), encoding="utf-8")
