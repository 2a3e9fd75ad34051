"""``regwarden manifest``: which manifests there are, and who holds or needs one of them, or any digest."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import click

from regwarden.cli.invocation import Invocation, RegwardenGroup, pass_invocation
from regwarden.cli.listing import list_options, run_list


@click.group(cls=RegwardenGroup)
def command() -> None:
    """List manifests, or show who needs a digest."""


@command.command("list")
@list_options
@pass_invocation
def list_(invocation: Invocation, **options: Any) -> int:
    """List the manifests of repositories: images, indexes and artifacts, tagged or not.

    Examples:
      regwarden manifest list team/app
      regwarden manifest list --where 'artifact_type contains sbom' --columns repository,digest,subject
    """
    return run_list(invocation, "manifest", options)


@command.command()
@click.argument("reference", metavar="REFERENCE|DIGEST")
@click.option("--registry", metavar="NAME", help="Only places in this registry.")
@click.option("--refresh", "wants_refresh", is_flag=True, help="Crawl first.")
@pass_invocation
def show(invocation: Invocation, reference: str, *, registry: str | None, wants_refresh: bool) -> int:
    """Show a manifest, or who holds and needs any digest.

    DIGEST is that of a manifest, config or layer, or at least its first six digits. Every registry, repository, tag,
    index and referrer that holds or needs it is listed.

    Examples:
      regwarden manifest show team/app:1.0
      regwarden manifest show sha256:3f1c9a
    """
    from regwarden.cli.freshness import references, refresh, require_registries, say_age
    from regwarden.cli.shown import print_content

    with closing(invocation.inventory()) as inventory:
        names = (registry,) if registry else ()
        status = refresh(invocation, inventory, names, references(reference)) if wants_refresh else 0
        require_registries(inventory, names)
        found = inventory.find_content(inventory.digest_of(reference), registry=registry)
        say_age(invocation, inventory, names)
        print_content(invocation.printer, found)
    return status
