"""Why may nothing be decided about a repository now? What was not read completely, and what is still being pushed."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from regwarden.store.event_schema import events, rereads
from regwarden.store.past_rows import fetch
from regwarden.store.times import to_micros

OPEN_PUSH: Final = timedelta(hours=1)
"""How long blobs may wait for their manifest before the push counts as broken off."""

_STATES: Final = {
    "partial": "the repository was not read completely",
    "denied": "the registry denied reading the repository",
    "failed": "the repository could not be read",
}
_BLOB: Final = "blob"


@dataclass(slots=True)
class Unrest:
    """What is not settled in a registry: what must be read again, and what is being pushed.

    ``whole`` are the reasons to read repositories again, by name (empty: the whole registry); ``manifests`` how many
    manifests of a repository are still to be read. ``last_blob`` and ``last_manifest`` are the last pushes of late, in
    microseconds.
    """

    whole: dict[str, str] = field(default_factory=dict)
    manifests: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    last_blob: dict[str, int] = field(default_factory=dict)
    last_manifest: dict[str, int] = field(default_factory=dict)

    def open_push(self, name: str) -> str:
        """What looks like a push under way, in words; empty for none."""
        if count := self.manifests.get(name):
            return f"{count} manifests that were pushed are still to be read"
        pushed = self.last_blob.get(name)
        if pushed is not None and pushed >= self.last_manifest.get(name, pushed):
            return "blobs were pushed within the last hour, and no manifest after them"
        return ""


def load_unrest(connection: Connection, registry_id: int, now: datetime, name: str | None = None) -> Unrest:
    """What is not settled in a registry, or in its repository ``name``."""
    unrest = Unrest()
    wanted = select(rereads.c.repository, rereads.c.reference, rereads.c.reason)
    wanted = wanted.where(rereads.c.registry_id == registry_id)
    recent = select(events.c.repository, events.c.target, func.max(events.c.at)).where(
        events.c.at >= to_micros(now - OPEN_PUSH),
        events.c.registry_id == registry_id,
        events.c.action.in_(("push", "mount")),
    )
    if name is not None:
        wanted = wanted.where(rereads.c.repository.in_(("", name)))
        recent = recent.where(events.c.repository == name)
    for repository, reference, reason in fetch(connection, wanted):
        if reference:
            unrest.manifests[repository] += 1
        else:
            unrest.whole[repository] = reason
    for repository, target, at in fetch(connection, recent.group_by(events.c.repository, events.c.target)):
        (unrest.last_blob if target == _BLOB else unrest.last_manifest)[repository] = at
    return unrest


def explain_doubt(name: str, state: str, unrest: Unrest, unread: str) -> str:
    """Why nothing may be decided about a repository; empty if there is no reason.

    ``unread`` is the digest of a manifest in it whose content is not known.
    """
    if state in _STATES:
        return _STATES[state]
    if name in unrest.whole:
        return f"the repository is to be read again ({unrest.whole[name]})"
    if "" in unrest.whole:
        return f"the registry is to be crawled again ({unrest.whole['']})"
    return f"the manifest {unread} could not be read" if unread else ""
