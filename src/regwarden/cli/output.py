"""How are results printed: tables for people, JSON, CSV and tab-separated lines for programs?"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import IO, TYPE_CHECKING, Final, Literal

from regwarden.cli.values import csv_text, escape_controls, is_bytes_field, plain_text, table_text, to_json_value

if TYPE_CHECKING:
    from rich.console import Console

_UNLIMITED_WIDTH: Final = 100_000
_GAP: Final = 2
# In the order in which they are left out where the terminal is too narrow.
_EXPENDABLE: Final = (
    "user_agent",
    "address",
    "media_type",
    "config_media_type",
    "stored_all_bytes",
    "attributed_bytes",
    "platforms",
    "platform",
    "newest_created_at",
    "shared_bytes",
    "digest",
    "created_at",
    "url",
    "logical_change_bytes",
    "manifest_count_change",
    "logical_bytes",
    "body_bytes",
    "sender",
    "level",
    "expires_at",
    "made_by",
    "manifest_count",
)
_RIGID: Final = frozenset({"day", "at", "since", "until", "code", "state", "outcome", "kind", ""})
# Sentences are broken into lines: more room than this is not made for them.
_SENTENCES: Final = frozenset({"reason", "message", "problem", "title"})
_SENTENCE_WIDTH: Final = 40
_HEADINGS: Final = {
    "logical_bytes": "logical",
    "stored_bytes": "stored",
    "stored_all_bytes": "stored, all",
    "exclusive_bytes": "exclusive",
    "shared_bytes": "shared",
    "attributed_bytes": "attributed",
    "size_bytes": "size",
    "tag_count": "tags",
    "manifest_count": "manifests",
    "repository_count": "repositories",
    "problem_count": "problems",
    "layer_count": "layers",
    "created_at": "created",
    "newest_created_at": "newest",
    "crawled_at": "crawled",
    "first_seen_at": "first seen",
    "pull_class": "class",
    "event_count": "events",
    "received_at": "received",
    "tag_count_change": "change",
    "manifest_count_change": "change",
    "logical_change_bytes": "change",
    "stored_change_bytes": "change",
    "failed_count": "failed pulls",
    "failed_use_count": "of use",
    "stored_with_policy_bytes": "with policy",
    "saved_bytes": "saved",
    "reclaimable_bytes": "reclaimable",
    "freed_alone_bytes": "frees alone",
    "remove_count": "go",
    "keep_count": "stay",
    "undecided_count": "undecided",
    "step_count": "steps",
}


class Format(StrEnum):
    """What ``--output`` accepts."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    PLAIN = "plain"


@dataclass(frozen=True, slots=True)
class Printer:
    """Prints rows and records in the chosen format."""

    format: Format = Format.TABLE
    exact_bytes: bool = False
    quiet: bool = False

    def rows(
        self,
        rows: Iterable[Mapping[str, object]],
        columns: Sequence[str],
        *,
        nothing: str = "",
        is_fixed: bool = False,
    ) -> None:
        """Print a list; ``nothing`` is said on stderr where a table would be empty; ``is_fixed`` as for ``table``."""
        match self.format:
            case Format.JSON:
                write_json_rows(rows, columns)
            case Format.CSV:
                write_csv_rows(rows, columns)
            case Format.PLAIN:
                for row in rows:
                    print("\t".join(plain_text(row.get(name)) for name in columns))
            case Format.TABLE:
                listed = list(rows)
                if listed:
                    self.table(listed, columns, is_fixed=is_fixed)
                elif nothing:
                    self.talk(nothing)

    def table(self, rows: Iterable[Mapping[str, object]], columns: Sequence[str], *, is_fixed: bool = False) -> None:
        """Print one table, whatever the format.

        In a narrow terminal less important columns are left out, unless ``is_fixed`` says that these were asked for.
        """
        from rich.table import Table
        from rich.text import Text

        listed = list(rows)
        console = stdout_console()
        cells = {name: [self.text(name, row.get(name)) for row in listed] for name in columns}
        shown = list(columns) if is_fixed else _fitting(cells, console.width)
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", collapse_padding=True)
        for name in shown:
            is_number = any(_is_number(row.get(name)) for row in listed)
            is_rigid = is_number or name.endswith("_at") or "digest" in name or name in _RIGID
            justify: Literal["right", "left"] = "right" if is_number else "left"
            table.add_column(Text(_title(name)), justify=justify, no_wrap=is_rigid, overflow="fold")
        for number in range(len(listed)):
            table.add_row(*(Text(cells[name][number]) for name in shown))
        console.print(table)
        if hidden := [name for name in columns if name not in shown]:
            self.talk(f"left out for lack of width: {', '.join(hidden)}")

    def record(self, record: Mapping[str, object]) -> None:
        """Print one thing: a JSON object, or a list of names and values."""
        match self.format:
            case Format.JSON:
                print(json.dumps(to_json_value(record), indent=2))
            case Format.CSV:
                write_csv_rows([record], list(record))
            case Format.PLAIN:
                for name, value in record.items():
                    print(f"{name}\t{plain_text(value)}")
            case Format.TABLE:
                self.facts(record)

    def facts(self, record: Mapping[str, object]) -> None:
        """Print names and values below each other; digests and texts in full, what is unknown or empty left out."""
        shown = {name: value for name, value in record.items() if value not in (None, "", (), [], {})}
        width = max((len(_heading(name)) for name in shown), default=0)
        for name, value in shown.items():
            text = escape_controls(value) if isinstance(value, str) else self.text(name, value)
            is_rounded = is_bytes_field(name) and not self.exact_bytes and not text.endswith(" B")
            exact = f" ({value:,} bytes)" if _is_number(value) and is_rounded else ""
            print(f"{_heading(name):<{width}}  {text}{exact}")

    def text(self, name: str, value: object) -> str:
        """One value as in a table."""
        return table_text(name, value, exact_bytes=self.exact_bytes)

    def heading(self, text: str) -> None:
        """Print a heading between the parts of a report for people."""
        from rich.text import Text

        stdout_console().print(Text(f"\n{escape_controls(text)}", style="bold"))

    def talk(self, text: str) -> None:
        """Say something that is not a result, on stderr."""
        if not self.quiet:
            say(text)


def write_json_rows(rows: Iterable[Mapping[str, object]], columns: Sequence[str]) -> None:
    """One JSON array of objects, one object per line, written as the rows come."""
    separator = "["
    for row in rows:
        document = {name: to_json_value(row.get(name)) for name in columns}
        sys.stdout.write(f"{separator}\n  {json.dumps(document)}")
        separator = ","
    sys.stdout.write("[]\n" if separator == "[" else "\n]\n")


def write_csv_rows(
    rows: Iterable[Mapping[str, object]],
    columns: Sequence[str],
    file: IO[str] | None = None,
    *,
    with_header: bool = True,
) -> int:
    """A header and one line per row (RFC 4180), safe to open in a spreadsheet; returns the number of rows."""
    writer = csv.writer(file or sys.stdout, lineterminator="\n")
    if with_header:
        writer.writerow(columns)
    count = 0
    for row in rows:
        writer.writerow([csv_text(row.get(name)) for name in columns])
        count += 1
    return count


def say(text: str) -> None:
    """A line on stderr."""
    print(text, file=sys.stderr)


def stdout_console() -> Console:
    """Where tables go; unlimited width unless stdout is a terminal, so that nothing is cut in a pipe."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else _UNLIMITED_WIDTH
    return Console(file=sys.stdout, width=width, highlight=False, markup=False, emoji=False, soft_wrap=False)


def _fitting(cells: Mapping[str, Sequence[str]], width: int) -> list[str]:
    """The columns that fit into ``width``, leaving out the least important ones first."""
    widths = {name: max([len(_title(name)), *map(len, texts)]) + _GAP for name, texts in cells.items()}
    for name in _SENTENCES & widths.keys():
        widths[name] = min(widths[name], _SENTENCE_WIDTH + _GAP)
    for name in _EXPENDABLE:
        if sum(widths.values()) - _GAP <= width:
            break
        widths.pop(name, None)
    return list(widths)


def _title(name: str) -> str:
    return _HEADINGS.get(name, name.replace("_", " "))


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _heading(name: str) -> str:
    return name.replace("_", " ")
