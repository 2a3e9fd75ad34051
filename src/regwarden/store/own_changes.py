"""What we did at a registry ourselves, in the inventory at once: as the registry's own notifications would tell of it.

Nothing here is undone or counted twice when those arrive, before or after. What we put back is no push: the clocks of
manifests stay where they were, and tags keep theirs (``observed_clocks``).
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.engine import Connection

from regwarden import clock
from regwarden.core.folding import OURSELVES, Changes, ContentChange, Removal, TagPoint
from regwarden.core.hosts import normalise_host
from regwarden.core.oci.digests import Digest
from regwarden.errors import NotFound
from regwarden.store.folded import Place, apply_changes
from regwarden.store.renaming import load_renames, present_name
from regwarden.store.rereads import note_rereads
from regwarden.store.schema import registries
from regwarden.store.times import to_micros


def note_deleted(
    connection: Connection, registry: str, repository: str, *, digest: str, tags: Collection[str], at: datetime
) -> None:
    """A manifest was deleted from a repository, with the ``tags`` that pointed to it.

    ``at`` (aware UTC) is when the request was sent: whatever others do after that stands against it. Raises
    ``NotFound`` (code ``unknown-registry``), as the others do.
    """
    repository = _called_now(connection, registry, repository, at)
    changes = Changes(repositories={repository: at})
    changes.removals.add(Removal(repository, Digest.parse(digest), at))
    changes.points.update(TagPoint(repository, tag, at, None, OURSELVES) for tag in tags)
    _apply(connection, registry, changes, at)


def note_untagged(
    connection: Connection, registry: str, repository: str, *, tags: Collection[str], at: datetime
) -> None:
    """Tags were removed from a repository, and the manifests stay. ``at`` as above."""
    repository = _called_now(connection, registry, repository, at)
    changes = Changes(repositories={repository: at})
    changes.points.update(TagPoint(repository, tag, at, None, OURSELVES) for tag in tags)
    _apply(connection, registry, changes, at)


def note_dropped(connection: Connection, registry: str, repository: str, *, at: datetime) -> None:
    """A repository was deleted as a whole. ``at`` as above."""
    repository = _called_now(connection, registry, repository, at)
    _apply(connection, registry, Changes(repositories={repository: at}, removals={Removal(repository, None, at)}), at)


def note_restored(
    connection: Connection, registry: str, repository: str, *, digest: str, tags: Collection[str], at: datetime
) -> None:
    """A manifest was put back into a repository, under ``tags`` or (none) by its digest alone.

    ``at`` (aware UTC) is when the registry had confirmed it, later than the deletion that it reverts.
    """
    restored = Digest.parse(digest)
    repository = _called_now(connection, registry, repository, at)
    changes = Changes(repositories={repository: at})
    changes.manifests[repository, restored] = ContentChange(first_at=at, alive_at=at)
    changes.points.update(TagPoint(repository, tag, at, restored, OURSELVES) for tag in tags)
    _apply(connection, registry, changes, at)


def _called_now(connection: Connection, registry: str, repository: str, at: datetime) -> str:
    """What a repository is called now that was called so at a moment: a rename may have come in since."""
    registry_id = connection.execute(select(registries.c.id).where(registries.c.name == registry)).scalar()
    renames = load_renames(connection, registry_id) if registry_id is not None else []
    return present_name(repository, to_micros(at), renames)


def _apply(connection: Connection, registry: str, changes: Changes, at: datetime) -> None:
    row = connection.execute(select(registries.c.id, registries.c.url).where(registries.c.name == registry)).first()
    if row is None:
        raise NotFound(f"nothing is known of the registry {registry[:80]!r}", code="unknown-registry")
    outcome = apply_changes(connection, Place(row.id, normalise_host(row.url)), changes, at)
    note_rereads(connection, outcome.rereads)
    # The figures are made anew from what is there now. A request may have taken longer than computing them.
    moment = to_micros(max(at, clock.now()))
    connection.execute(
        update(registries)
        .where(registries.c.id == row.id, func.coalesce(registries.c.changed_at, moment) <= moment)
        .values(changed_at=moment)
    )
