"""``regwarden manifest``: which manifests there are, and who holds or needs one of them, or any digest."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import click

from regwarden.cli.invocation import Invocation, RegwardenGroup, pass_invocation
from regwarden.cli.listing import NO_PAST_CRAWL, list_options, run_list


@click.group(cls=RegwardenGroup)
def command() -> None:
    """List manifests, or show who needs a digest."""


@command.command("list")
@click.option("--missing-blobs", is_flag=True, help="Only manifests that need a blob which is known to be missing.")
@list_options
@pass_invocation
def list_(invocation: Invocation, *, missing_blobs: bool, **options: Any) -> int:
    """List the manifests of repositories: images, indexes and artifacts, tagged or not.

    Examples:
      regwarden manifest list team/app
      regwarden manifest list --where 'artifact_type contains sbom' --columns repository,digest,subject
      regwarden manifest list --missing-blobs
      regwarden manifest list --sort -tag_count --limit 20
    """
    if missing_blobs:
        options["missing_blobs"] = True
    return run_list(invocation, "manifest", options)


@command.command()
@click.argument("reference", metavar="REFERENCE|DIGEST")
@click.option("--registry", metavar="NAME", help="Only places in this registry.")
@click.option("--as-of", metavar="DATE", help="Who held it at that moment; a date is its beginning, UTC.")
@click.option("--refresh", "wants_refresh", is_flag=True, help="Crawl first.")
@pass_invocation
def show(
    invocation: Invocation, reference: str, *, registry: str | None, as_of: str | None, wants_refresh: bool
) -> int:
    """Show a manifest, or who holds and needs any digest.

    DIGEST is that of a manifest, config or layer, or at least its first six digits. Every registry, repository, tag,
    index and referrer that holds or needs it is listed.

    Examples:
      regwarden manifest show team/app:1.0
      regwarden manifest show sha256:3f1c9a
    """
    from regwarden.cli.freshness import references, refresh, require_registries, say_moment
    from regwarden.cli.shown import print_content
    from regwarden.library_queries import past_moment

    if wants_refresh and as_of is not None:
        raise click.UsageError(NO_PAST_CRAWL)
    moment = past_moment(as_of)
    with closing(invocation.inventory()) as inventory:
        names = (registry,) if registry else ()
        status = refresh(invocation, inventory, names, references(reference)) if wants_refresh else 0
        require_registries(inventory, names)
        digest = inventory.digest_of(reference, as_of=moment)
        found = inventory.find_content(digest, registry=registry, as_of=moment)
        say_moment(invocation, inventory, moment, names)
        print_content(invocation.printer, inventory, found, registries=names, as_of=moment)
    return status
