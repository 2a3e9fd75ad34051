"""``regwarden blob``: which blobs there are, and which are known to be missing."""

from __future__ import annotations

from typing import Any

import click

from regwarden.cli.invocation import Invocation, RegwardenGroup, pass_invocation
from regwarden.cli.listing import list_options, run_list


@click.group(cls=RegwardenGroup)
def command() -> None:
    """List blobs."""


@command.command("list")
@click.option("--missing", is_flag=True, help="Only blobs that are known to be gone though a manifest needs them.")
@list_options
@pass_invocation
def list_(invocation: Invocation, *, missing: bool, **options: Any) -> int:
    """List layers, configs and other blobs of repositories.

    Whether a blob is really there is `unverified` until `regwarden crawl --verify-blobs` has asked for it once.

    Examples:
      regwarden blob list --missing
      regwarden blob list --sort -size --limit 20
    """
    if missing:
        options["where"] = (*options["where"], "state = missing")
    return run_list(invocation, "blob", options)
