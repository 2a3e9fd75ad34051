"""``regwarden db``: bring the database to the present version, check that it is sound."""

from __future__ import annotations

import click

from regwarden.cli.failures import FAILED
from regwarden.cli.invocation import Invocation, RegwardenGroup, pass_invocation
from regwarden.cli.output import Format


@click.group(cls=RegwardenGroup)
def command() -> None:
    """Migrate or check the database."""


@command.command()
@pass_invocation
def migrate(invocation: Invocation) -> None:
    """Bring the database to the version of this release; create it if there is none.

    Example: regwarden db migrate --database postgresql://regwarden@db/regwarden
    """
    from regwarden.store.upkeep import migrate as migrate_database

    version = migrate_database(invocation.database_url, create=True)
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
