"""Which of the times of tags and manifests were told by events, and so are exact? The others are "at the latest"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import and_, select
from sqlalchemy.engine import Connection

from regwarden.core.folding import EVENT
from regwarden.store.event_schema import events
from regwarden.store.past_rows import fetch
from regwarden.store.schema import manifests, repositories, repository_manifests, tag_history
from regwarden.store.tag_points import CRAWL

TagDigest = tuple[str, bytes]


@dataclass(slots=True)
class TagClocks:
    """What was observed of the tags of one repository.

    The last points of each tag and digest, by cause, and every moment (microseconds) of which not only a crawl tells.
    """

    told: dict[TagDigest, int] = field(default_factory=dict)
    restored: dict[TagDigest, int] = field(default_factory=dict)
    crawled: dict[TagDigest, int] = field(default_factory=dict)
    moments: set[int] = field(default_factory=set)

    def before_we_restored(self, tag: str, digest: bytes, since: int) -> tuple[int, bool]:
        """Since when a tag points to ``digest`` (microseconds), and whether that is exact.

        It has done so since ``since`` without a break, of which no event tells. Where that is because we put it back
        ourselves, it counts as if it had never been away.
        """
        key = (tag, digest)
        if self.restored.get(key, since - 1) < since:
            return since, False
        told = self.told.get(key)
        if told is not None and told >= self.crawled.get(key, told):
            return told, True
        return self.crawled.get(key, since), False


def load_tag_clocks(connection: Connection, repository_ids: Sequence[int]) -> dict[int, TagClocks]:
    """The observations of the tags of these repositories; those of crawls only where we put something back."""
    history = tag_history.c
    columns = (history.repository_id, history.tag, history.digest, history.at, history.cause)
    told = select(*columns).where(history.repository_id.in_(repository_ids), history.cause != CRAWL)
    found: dict[int, TagClocks] = {}
    for repository_id, tag, digest, at, cause in fetch(connection, told):
        clocks = found.get(repository_id)
        if clocks is None:
            clocks = found[repository_id] = TagClocks()
        clocks.moments.add(at)
        if digest:
            known = clocks.told if cause == EVENT else clocks.restored
            key = (tag, digest)
            known[key] = max(at, known.get(key, at))
    with_restored = [repository_id for repository_id, clocks in found.items() if clocks.restored]
    if with_restored:
        crawled = select(*columns).where(history.repository_id.in_(with_restored), history.cause == CRAWL)
        for repository_id, tag, digest, at, _ in fetch(connection, crawled):
            clocks = found[repository_id]
            key = (tag, digest)
            # Only what was there before can be put back.
            if at < clocks.restored.get(key, at):
                clocks.crawled[key] = max(at, clocks.crawled.get(key, at))
    return found


def load_first_pushes(connection: Connection, repository_ids: Sequence[int]) -> set[tuple[int, int]]:
    """The (repository, manifest) that were pushed more than once, and whose first sign of life was a push too."""
    here = repository_manifests.c
    pushed = and_(
        events.c.registry_id == repositories.c.registry_id,
        events.c.repository == repositories.c.name,
        events.c.at == here.first_seen_at,
        events.c.digest == manifests.c.digest,
        events.c.action == "push",
    )
    statement = (
        select(here.repository_id, here.manifest_id)
        .select_from(
            repository_manifests.join(repositories, repositories.c.id == here.repository_id)
            .join(manifests, manifests.c.id == here.manifest_id)
            .join(events, pushed)
        )
        .where(here.repository_id.in_(repository_ids), here.pushed_at > here.first_seen_at)
    )
    return set(fetch(connection, statement))
