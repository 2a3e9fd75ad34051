"""``regwarden db regstat`` and ``regwarden db import``: regstat's tables as views, and what its own tables held."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from regwarden.cli.invocation import Invocation, RegwardenGroup, pass_invocation
from regwarden.cli.values import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from regwarden.store.regstat_import import ImportReport


@click.group(cls=RegwardenGroup)
def regstat() -> None:
    """Keep SQL that was written for regstat working: its tables as views, on PostgreSQL."""


@regstat.command()
@click.option("--rename-old", is_flag=True, help="Rename a schema regstat that is not ours to regstat_old_YYYYMMDD.")
@pass_invocation
def enable(invocation: Invocation, rename_old: bool) -> None:
    """Create the schema regstat with regstat's eight tables as views; again after an upgrade, if status asks for it.

    Tables of regstat itself are never touched without --rename-old. Rights granted on the views stay.

    Example: regwarden db regstat enable
    """
    from regwarden.clock import now
    from regwarden.store.addresses import parse_database_address
    from regwarden.store.database import Access, open_database
    from regwarden.store.regstat import enable_regstat, require_postgresql

    # Before it is opened: SQLite may be in use, or not be there yet.
    require_postgresql(parse_database_address(invocation.database_url).dialect)
    with open_database(invocation.database_url, access=Access.WRITE, create=True) as database:
        renamed = enable_regstat(database, now=now(), rename_old=rename_old)
    if renamed:
        invocation.printer.talk(f"the old schema is called {renamed} now")
    invocation.printer.talk("the schema regstat has its eight views")


@regstat.command()
@pass_invocation
def disable(invocation: Invocation) -> None:
    """Remove the views and what is kept for them; the inventory stays.

    Example: regwarden db regstat disable
    """
    from regwarden.store.addresses import parse_database_address
    from regwarden.store.database import Access, open_database
    from regwarden.store.regstat import disable_regstat, require_postgresql

    # Before it is opened: SQLite may be in use, or not be there yet.
    require_postgresql(parse_database_address(invocation.database_url).dialect)
    with open_database(invocation.database_url, access=Access.WRITE) as database:
        removed = disable_regstat(database)
    invocation.printer.talk("the views are removed" if removed else "there were no views")


@regstat.command()
@pass_invocation
def status(invocation: Invocation) -> None:
    """Say whether the views are there: disabled, enabled, unfinished, outdated, or foreign (regstat's own tables).

    Example: regwarden db regstat status --output json
    """
    from regwarden.store.database import Access, open_database
    from regwarden.store.regstat import RegstatState, regstat_status

    with open_database(invocation.database_url, access=Access.READ) as database:
        found = regstat_status(database)
    record = {"state": str(found.state), "version": found.version, "expected_version": found.expected_version}
    invocation.printer.record(record)
    if found.state in (RegstatState.UNFINISHED, RegstatState.OUTDATED):
        invocation.printer.talk("run: regwarden db regstat enable")
    elif found.state is RegstatState.FOREIGN:
        invocation.printer.talk("run: regwarden db import regstat; then: regwarden db regstat enable --rename-old")


@click.group("import", cls=RegwardenGroup)
def importing() -> None:
    """Take in what another tool has collected."""


@importing.command("regstat")
@click.option("--from", "source", metavar="URL", help="Where regstat's tables are. [default: the database itself]")
@click.option("--schema", default="regstat", show_default=True, help="The schema they are in.")
@pass_invocation
def import_(invocation: Invocation, source: str | None, schema: str) -> None:
    """Take in the tags, manifests and blobs of regstat's tables, deleted ones too. Doing it again changes nothing.

    What belongs to a registry that is not configured is counted, not taken. Crawl afterwards: sizes and contents come
    from the registries. Exit status: 0 everything with a known registry was taken.

    Example: regwarden db import regstat --from 'host=localhost user=postgres dbname=regstat'
    """
    from regwarden.clock import now
    from regwarden.store.applying import EventRegistry
    from regwarden.store.database import Access, open_database
    from regwarden.store.regstat_import import import_regstat, stored_registries
    from regwarden.store.regstat_source import open_regstat_source

    url = invocation.database_url
    configured = [
        EventRegistry(one.name, one.url, one.kind, one.aliases) for one in invocation.loaded.settings.registry
    ]
    names = {one.name for one in configured}
    with (
        open_regstat_source(source or url, schema) as tables,
        open_database(url, access=Access.WRITE, create=True) as database,
    ):
        stored = [one for one in database.read_now(stored_registries) if one.name not in names]
        report = import_regstat(database, tables, [*configured, *stored], now=now())
    invocation.printer.record(_record(report))
    _explain(invocation, report.unknown_hosts)


def _record(report: ImportReport) -> dict[str, object]:
    return {
        "tag_count": report.tag_count,
        "deleted_tag_count": report.deleted_tag_count,
        "manifest_count": report.manifest_count,
        "blob_count": report.blob_count,
        "unknown_registry_count": sum(report.unknown_hosts.values()),
        "untagged_manifest_count": report.untagged_manifest_count,
        "unplaced_blob_count": report.unplaced_blob_count,
        "unreadable_count": report.unreadable_count,
    }


def _explain(invocation: Invocation, unknown_hosts: Mapping[str, int]) -> None:
    for host, count in sorted(unknown_hosts.items()):
        shown = host.replace('"', "")
        invocation.warn(
            f"{counted(count, 'tag')} of {shown} not taken, for no registry has that host; add, and repeat:"
        )
        click.echo(f'\n[[registry]]\nname = "{shown}"\nurl = "https://{shown}"\n', err=True)
