"""How are events printed that come one by one, without end? A line each, at once."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Final

import click

from regwarden.cli.output import Format, write_csv_rows
from regwarden.cli.values import escape_controls, plain_text, table_text, to_json_value

_WIDTHS: Final = {"action": 6, "target": 10}


class LinePrinter:
    """Prints events in the chosen format: for people, as JSON objects, CSV or tab-separated lines."""

    def __init__(self, form: Format, columns: tuple[str, ...]) -> None:
        self._form = form
        self._columns = columns
        self._has_header = False

    def print(self, event: Mapping[str, object]) -> None:
        """Print one; ``flush`` makes sure that it is seen."""
        match self._form:
            case Format.JSON:
                click.echo(json.dumps({name: to_json_value(event.get(name)) for name in self._columns}))
            case Format.CSV:
                self._print_csv(event)
            case Format.PLAIN:
                click.echo("\t".join(plain_text(event.get(name)) for name in self._columns))
            case Format.TABLE:
                click.echo(_for_people(event))

    def flush(self) -> None:
        """Let whoever reads see everything so far."""
        sys.stdout.flush()

    def _print_csv(self, event: Mapping[str, object]) -> None:
        if not self._has_header:
            write_csv_rows([], self._columns)
            self._has_header = True
        write_csv_rows([event], self._columns, with_header=False)


def _for_people(event: Mapping[str, object]) -> str:
    """Time, what was done to what, and by whom; what is not known is left out."""
    at = to_json_value(event["at"])
    place = "/".join(str(event[name]) for name in ("registry", "repository") if event.get(name))
    tag = f":{event['tag']}" if event["tag"] else ""
    digest = f"@{table_text('digest', event['digest'])}" if event["digest"] else ""
    words = [str(at)[:19].replace("T", " ")]
    words += [f"{event[name]!s:<{_WIDTHS[name]}}" for name in ("action", "target")]
    words.append(f"{place or event['host']}{tag}{digest}")
    words += [str(event[name]) for name in ("pull_class", "actor", "user_agent", "address") if event[name]]
    return escape_controls("  ".join(words))
