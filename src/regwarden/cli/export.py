"""``regwarden export``: everything, or what is selected, into a file for spreadsheets and other programs."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import IO, Any, Final

import click

from regwarden.cli.invocation import Invocation, RegwardenCommand, pass_invocation
from regwarden.cli.listing import NO_PAST_CRAWL
from regwarden.cli.output import Format, write_csv_rows
from regwarden.cli.values import counted, to_json_value
from regwarden.errors import InputError

_NOUNS: Final = ("registry", "repository", "tag", "manifest", "blob")
_ENDINGS: Final = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}


@click.command(cls=RegwardenCommand)
@click.argument("noun", type=click.Choice(_NOUNS), metavar="NOUN")
@click.argument("selectors", nargs=-1, metavar="[SELECTOR]…")
@click.option(
    "--format", "form", type=click.Choice(["csv", "jsonl", "parquet"]), help="[default: by the name of FILE, else csv]"
)
@click.option("--to", metavar="FILE", help="Write to FILE. [default: standard output]")
@click.option("--where", multiple=True, metavar="CONDITION", help="'size > 500MiB'. Repeat: and.")
@click.option("--registry", "registries", multiple=True, metavar="NAME", help="Only this registry. Repeatable.")
@click.option("--columns", metavar="A,B,C", help="Which fields. [default: all]")
@click.option("--include-unknown", is_flag=True, help="Also what a condition cannot decide.")
@click.option("--as-of", metavar="DATE", help="What there was at that moment; a date is its beginning, UTC.")
@click.option("--refresh", "wants_refresh", is_flag=True, help="Crawl first.")
@pass_invocation
def command(invocation: Invocation, noun: str, selectors: tuple[str, ...], **options: Any) -> int:
    """Export registries, repositories, tags, manifests or blobs, all from one consistent moment.

    NOUN is registry, repository, tag, manifest or blob. CSV is guarded: a text that a spreadsheet would run as a
    formula gets an apostrophe in front. Parquet needs `pip install regwarden[parquet]`.

    Examples:
      regwarden export tag --to tags.csv
      regwarden export tag --format jsonl --where 'created > 1y' | gzip > old.jsonl.gz
    """
    from regwarden.cli.freshness import refresh, say_moment
    from regwarden.core.fields import resolve_field, usual_fields
    from regwarden.library_queries import past_moment

    if invocation.output != Format.TABLE:
        raise InputError("export has no --output", hint="Write --format csv, --format jsonl or --format parquet.")
    target: str | None = options.pop("to")
    form = _format(options.pop("form"), target)
    names = [name for name in (options.pop("columns") or "").split(",") if name.strip()]
    fields = [resolve_field(noun, name).name for name in names] or list(usual_fields(noun))  # type: ignore[arg-type]
    status = 0
    with closing(invocation.inventory()) as inventory:
        options["as_of"] = moment = past_moment(options["as_of"])
        if options.pop("wants_refresh"):
            if moment is not None:
                raise click.UsageError(NO_PAST_CRAWL)
            status = refresh(invocation, inventory, options["registries"], selectors)
        query = {key: value for key, value in options.items() if value}
        with _opened(target, form) as file:
            count = inventory.consume(noun, lambda rows: _write(rows, form, noun, fields, file), *selectors, **query)
        if moment is not None:
            say_moment(invocation, inventory, moment, options["registries"], selectors)
        invocation.printer.talk(f"{counted(count, 'row')} exported" + (f" to {target}" if target else ""))
    return status


def _format(form: str | None, target: str | None) -> str:
    if form is None:
        form = _ENDINGS.get(Path(target).suffix.lower()) if target else "csv"
    if form is None:
        raise InputError(
            f"the name {target} does not say which format is meant",
            hint="Add --format csv, jsonl or parquet, or let the name end in .csv, .jsonl, .ndjson or .parquet.",
        )
    if form == "parquet":
        if target is None:
            raise InputError("Parquet cannot be written to standard output", hint="Add --to FILE.")
        _require_pyarrow()
    return form


def _require_pyarrow() -> None:
    if importlib.util.find_spec("pyarrow") is None:
        raise InputError(
            "Parquet needs the library pyarrow, which is not installed",
            hint="Run: pip install 'regwarden[parquet]'",
            code="missing-extra",
        )


@contextlib.contextmanager
def _opened(target: str | None, form: str) -> Iterator[IO[Any]]:
    """The file to write to; it appears under its name only when it is complete."""
    if target is None:
        yield sys.stdout
        return
    path = Path(target)
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") if form == "parquet" else part.open("w", encoding="utf-8", newline="") as file:
            yield file
        part.replace(path)
    except OSError as error:
        raise InputError(
            f"cannot write {target}: {(error.strerror or 'failed').lower()}", hint="Name another file with --to."
        ) from None
    finally:
        part.unlink(missing_ok=True)


def _write(rows: Iterable[dict[str, object]], form: str, noun: str, fields: Sequence[str], file: IO[Any]) -> int:
    """Write all rows; returns how many there were."""
    if form == "parquet":
        from regwarden.cli.parquet import write_parquet

        return write_parquet(rows, noun, fields, file)
    if form == "csv":
        return write_csv_rows(rows, fields, file)
    count = 0
    for row in rows:
        file.write(json.dumps({name: to_json_value(row.get(name)) for name in fields}) + "\n")
        count += 1
    return count
