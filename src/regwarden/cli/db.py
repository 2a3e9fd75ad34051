"""``regwarden db``: bring the database to the present version, check that it is sound, delete old rows of ours."""

from __future__ import annotations

from dataclasses import asdict

import click

from regwarden.cli import imagelist, regstat
from regwarden.cli.failures import FAILED
from regwarden.cli.invocation import Invocation, RegwardenGroup, pass_invocation
from regwarden.cli.output import Format
from regwarden.cli.values import counted
from regwarden.errors import Conflict


@click.group(cls=RegwardenGroup)
def command() -> None:
    """Migrate, check or purge the database."""


command.add_command(regstat.regstat)
command.add_command(regstat.importing)
regstat.importing.add_command(imagelist.import_)


@command.command()
@pass_invocation
def migrate(invocation: Invocation) -> None:
    """Bring the database to the version of this release; create it if there is none.

    Example: regwarden db migrate --database postgresql://regwarden@db/regwarden
    """
    from regwarden.store.upkeep import migrate as migrate_database

    try:
        version = migrate_database(invocation.database_url, create=True)
    except Conflict as busy:
        from regwarden.library_remote import explain_migrating

        raise explain_migrating(busy, invocation.database_url) from busy
    invocation.printer.talk(f"the database has version {version}")


@command.command()
@pass_invocation
def check(invocation: Invocation) -> int:
    """Read the whole database and report whether it is sound, also while another process writes to it.

    Exit status: 0 sound, 1 broken.

    Example: regwarden db check
    """
    from regwarden.store.upkeep import check as check_database

    report = check_database(invocation.database_url)
    record = {
        "database": report.place,
        "version": report.version,
        "expected_version": report.expected_version,
        "sound": report.is_sound,
        "problems": list(report.problems),
        "size_bytes": report.size_bytes,
        "row_counts": dict(report.row_counts),
    }
    if invocation.output == Format.TABLE:
        counts = record.pop("row_counts")
        invocation.printer.facts(record)
        rows = [{"table": name, "rows": count} for name, count in dict(report.row_counts).items() if count]
        if counts and rows:
            click.echo()
            invocation.printer.table(rows, ("table", "rows"))
    else:
        invocation.printer.record(record)
    return 0 if report.is_sound else FAILED


@command.command()
@pass_invocation
def purge(invocation: Invocation) -> None:
    """Delete deliveries, events, daily pull counts and removed manifests that are older than they are kept.

    How long that is say [events] and [cleanup] of the configuration. The service does the same every hour. What was
    learned from them stays, and so does what was not applied yet.

    Example: regwarden db purge
    """
    with invocation.inventory() as inventory:
        purged = inventory.purge()
    if invocation.output != Format.TABLE:
        invocation.printer.record(asdict(purged))
        return
    parts = (
        counted(purged.delivery_count, "applied delivery", "applied deliveries"),
        f"{purged.quarantine_count:,} in quarantine",
        counted(purged.event_count, "event"),
        counted(purged.pull_day_count, "daily pull count"),
        counted(purged.trash_count, "removed manifest"),
    )
    click.echo(f"deleted: {', '.join(parts)}")
