"""How is one thing printed: a repository, a tag, or whatever a digest stands for?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import click

from regwarden.cli.clocks import latest_clocks, print_pulls, recent_pulls, with_known_clocks
from regwarden.cli.output import Format, Printer
from regwarden.cli.values import counted, escape_controls
from regwarden.core.fields import Noun, usual_fields

if TYPE_CHECKING:
    from datetime import datetime

    from regwarden.library import Inventory, Row
    from regwarden.library_pulls import PullArguments
    from regwarden.store.holders import ContentReport
    from regwarden.store.manifest_reports import LayerEntry, ManifestReport

_LARGEST: Final = 10
_SHOWN_PLACES: Final = 50
_TAG_COLUMNS: Final = ("tag", "digest", "platforms", "logical_bytes", "exclusive_bytes", "created_at")


def print_repository(printer: Printer, inventory: Inventory, found: Row) -> None:
    """A repository's facts, its largest tags and its problems."""
    tags = inventory.tags(
        registries=[found.registry], repositories=[found.repository], sort=["-logical_bytes"], limit=_LARGEST
    )
    problems = inventory.problems(found.registry, found.repository)
    if printer.format != Format.TABLE:
        rows = [_usual("tag", tag) for tag in tags]
        printer.record({**_usual("repository", found), "largest_tags": rows, "problems": problems})
        return
    printer.facts(with_known_clocks(_usual("repository", found)))
    if tags:
        printer.heading("Largest tags")
        printer.table(tags, _TAG_COLUMNS)
    if problems:
        printer.heading("Problems")
        printer.table([asdict(problem) for problem in problems], ("tag", "digest", "message", "code"))


def print_tag(printer: Printer, inventory: Inventory, found: Row, *, as_of: datetime | None = None) -> None:
    """A tag's facts and those of the manifest that it points to."""
    content = inventory.find_content(found.digest, registry=found.registry, as_of=as_of) if found.digest else None
    manifest = content.manifest if content else None
    place: PullArguments = {
        "registries": [found.registry],
        "repositories": [found.repository],
        "tags": [found.tag],
    }
    pulls = recent_pulls(inventory, as_of=as_of, place=place)
    if printer.format != Format.TABLE:
        printer.record({**_usual("tag", found), "manifest": manifest, "pulls": pulls})
        return
    printer.facts(with_known_clocks(_usual("tag", found)))
    print_pulls(printer, pulls)
    if manifest is not None:
        _print_parts(printer, manifest)
        _print_referrers(printer, manifest.referrers)
    if content is not None and content.use_count > 1:
        printer.heading(f"The same content is in {counted(content.use_count, 'place')}")
        _print_places(printer, content)


def print_content(
    printer: Printer,
    inventory: Inventory,
    found: ContentReport,
    *,
    registries: Sequence[str] = (),
    as_of: datetime | None = None,
) -> None:
    """What a digest is, who holds or needs it and, of a manifest, who pulls it."""
    clocks: dict[str, Any] = {}
    pulls: list[Row] = []
    if found.manifest is not None:
        selector = f"@{found.digest}"
        clocks = latest_clocks(inventory.manifests(selector, registries=registries, as_of=as_of))
        pulls = recent_pulls(inventory, selector, as_of=as_of, place={"registries": registries})
    if printer.format != Format.TABLE:
        printer.record({**asdict(found), **clocks, **({"pulls": pulls} if found.manifest else {})})
        return
    facts = {
        "digest": found.digest,
        "is a": found.kinds,
        "media_type": found.media_type,
        "size_bytes": found.size_bytes,
        "in manifests": found.manifest_count or None,
        "in indexes": len(found.indexes) or None,
        "places": found.use_count,
    }
    printer.facts(facts)
    if found.manifest is not None:
        click.echo()
        _print_manifest(printer, found.manifest, clocks)
        print_pulls(printer, pulls)
    printer.heading(
        f"Held or needed by {counted(found.use_count, 'place')} in "
        f"{counted(found.repository_count, 'repository', 'repositories')}"
    )
    _print_places(printer, found)
    _print_digests(printer, "Manifests with it", found.manifests)
    _print_digests(printer, "Indexes that list it", found.indexes)
    _print_referrers(printer, found.referrers)


def _print_manifest(printer: Printer, manifest: ManifestReport, clocks: Mapping[str, Any]) -> None:
    printer.facts(
        {
            "artifact_type": manifest.artifact_type,
            "subject": manifest.subject,
            "platforms": manifest.platforms,
            "created_at": manifest.created_at,
            "logical_bytes": manifest.logical_bytes,
            "state": manifest.state,
            **with_known_clocks(clocks),
        }
    )
    _print_parts(printer, manifest)


def _print_parts(printer: Printer, manifest: ManifestReport) -> None:
    """Labels, children, layers."""
    if manifest.labels:
        printer.heading("Labels")
        printer.facts(_visible(manifest.labels))
    if manifest.children:
        printer.heading("Platforms")
        children = [asdict(child) for child in manifest.children]
        printer.table(children, ("platform", "digest", "logical_bytes", "state"))
    parts = [*([("config", manifest.config)] if manifest.config else []), *(("layer", one) for one in manifest.layers)]
    if parts:
        printer.heading("Content")
        rows = [{"part": part, **asdict(entry), "state": _blob_state(entry, manifest)} for part, entry in parts]
        states = ("state",) if any(row["state"] for row in rows) else ()
        printer.table(rows, ("part", "digest", "size_bytes", *states, "media_type"))


def _blob_state(entry: LayerEntry, manifest: ManifestReport) -> str:
    if entry.is_foreign:
        return "foreign"
    return "missing" if entry.digest in manifest.missing else ""


def _print_places(printer: Printer, found: ContentReport) -> None:
    uses = [asdict(use) for use in found.uses[:_SHOWN_PLACES]]
    if uses:
        printer.table(uses, ("registry", "repository", "tag", "via", "digest"))
    if (left := found.use_count - len(uses)) > 0:
        printer.talk(f"and {left:,} more; --output json shows up to 1,000")


def _print_referrers(printer: Printer, referrers: Sequence[Any]) -> None:
    if referrers:
        printer.heading("Signatures, attestations and other referrers")
        rows = [asdict(referrer) for referrer in referrers]
        has_several = len({row["registry"] for row in rows}) > 1
        columns = ("repository", "tag", "kind", "artifact_type", "digest")
        printer.table(rows, (*(("registry",) if has_several else ()), *columns))


def _print_digests(printer: Printer, title: str, digests: Sequence[str]) -> None:
    if digests:
        printer.heading(title)
        for digest in digests[:_SHOWN_PLACES]:
            click.echo(digest)


def _usual(noun: Noun, row: Row) -> dict[str, Any]:
    return {name: row[name] for name in usual_fields(noun)}


def _visible(labels: Mapping[str, str]) -> dict[str, str]:
    return {escape_controls(name): value for name, value in labels.items()}
