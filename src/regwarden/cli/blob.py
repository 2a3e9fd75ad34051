"""``regwarden blob``: which blobs there are, and which are known to be missing or needed by nothing."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import click

from regwarden.cli.invocation import Invocation, RegwardenGroup, pass_invocation
from regwarden.cli.listing import list_options, run_list
from regwarden.library_queries import blob_conditions


@click.group(cls=RegwardenGroup)
def command() -> None:
    """List blobs."""


@command.command("list")
@click.option("--missing", is_flag=True, help="Only blobs that are known to be gone though a manifest needs them.")
@click.option("--orphaned", is_flag=True, help="Only blobs that were uploaded and that no manifest there names.")
@list_options
@pass_invocation
def list_(invocation: Invocation, *, missing: bool, orphaned: bool, **options: Any) -> int:
    """List layers, configs and other blobs of repositories.

    Whether a blob is really there is `unverified` until `regwarden crawl --verify-blobs` has asked for it once.
    Blobs that no manifest names are known from notifications that tell of uploads: `registry check --notifications
    full`. One that is being pushed just now is named a little later: 'pushed > 1d' leaves these out.

    Examples:
      regwarden blob list --missing
      regwarden blob list --orphaned --where 'pushed > 1d'
      regwarden blob list --sort -size --limit 20
    """
    options["where"] = (*options["where"], *blob_conditions(missing=missing, orphaned=orphaned))
    status = run_list(invocation, "blob", options)
    if orphaned:
        _say_what_is_known(invocation)
    return status


def _say_what_is_known(invocation: Invocation) -> None:
    with closing(invocation.inventory()) as inventory:
        if not inventory.has_blob_events():
            invocation.printer.talk(
                "no notification has told of uploaded blobs, so orphaned ones are not known; "
                "`regwarden registry check --notifications full` prints what to configure"
            )
