"""``regwarden db import imagelist``: what imagelist's own table held, as entries of the allow-list."""

from __future__ import annotations

from typing import Final

import click

from regwarden.cli.failures import PARTLY_DONE
from regwarden.cli.invocation import Invocation, RegwardenCommand, pass_invocation
from regwarden.cli.values import counted

_MOST_NAMED: Final = 100


@click.command("imagelist", cls=RegwardenCommand)
@click.option("--from", "source", metavar="URL", help="Where imagelist's table is. [default: the database itself]")
@click.option("--table", default="images", show_default=True, help="The table, or SCHEMA.TABLE.")
@pass_invocation
def import_(invocation: Invocation, source: str | None, table: str) -> int:
    """Take in the images of imagelist's table, with their times. Doing it again changes nothing.

    Of what is on the list already the newer tags count; what was removed here since is not brought back. Nothing is
    written to imagelist's database, which may be PostgreSQL or SQLite. Exit status: 0 everything was taken, 3 some rows
    could not be read; they are named.

    Example: regwarden db import imagelist --from 'host=localhost user=postgres dbname=imagelist'
    """
    from regwarden.clock import now
    from regwarden.library_principals import os_user
    from regwarden.store.database import Access, open_database
    from regwarden.store.imagelist_import import import_imagelist
    from regwarden.store.imagelist_source import open_imagelist_source

    url = invocation.database_url
    with (
        open_imagelist_source(source or url, table) as images,
        open_database(url, access=Access.WRITE, create=True) as database,
    ):
        report = import_imagelist(database, images, principal=os_user(), now=now())
    invocation.printer.record(
        {
            "image_count": report.image_count,
            "added_count": report.added_count,
            "updated_count": report.updated_count,
            "unchanged_count": report.unchanged_count,
            "removed_count": report.removed_count,
            "unreadable_count": report.unreadable_count,
            "without_tags_count": len(report.problems) - report.unreadable_count,
        }
    )
    for row in report.problems[:_MOST_NAMED]:
        invocation.warn(f"{row.id!r}: {row.problem}")
    if len(report.problems) > _MOST_NAMED:
        invocation.warn(f"and {counted(len(report.problems) - _MOST_NAMED, 'more row')} like these")
    return PARTLY_DONE if report.problems else 0
