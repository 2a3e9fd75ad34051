"""Which pulls do not fit to what is known? A tag that answers with something else may have been moved unheard of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Final

from sqlalchemy.engine import Connection

from regwarden.core.folding import TagPull
from regwarden.store.keyed import select_by_key
from regwarden.store.tag_state import TagKey
from regwarden.store.times import from_micros

PULL_RACE: Final = timedelta(seconds=60)

# What a tag points to, and when it was last heard of from whatever source; a row even where nothing is known of it.
_LAST_WORD: Final = """
SELECT p.id, {name}, m.digest, coalesce((SELECT max(h.at) FROM tag_history h
  WHERE h.repository_id = p.id AND h.tag = {name} AND h.at > coalesce(p.read_until, 0)), p.read_until, 0)
FROM repositories p LEFT JOIN tags t ON t.repository_id = p.id AND t.name = {name}
LEFT JOIN manifests m ON m.id = t.manifest_id
WHERE p.id = {repository}
"""


def sorted_by_time(pulls: Iterable[TagPull]) -> list[TagPull]:
    """Pulls, the oldest first."""
    return sorted(pulls, key=lambda pull: (pull.at, str(pull.digest)))


def find_surprising(connection: Connection, latest: Mapping[TagKey, TagPull]) -> set[str]:
    """Repositories in which the latest pull by tag was answered with something else than the tag is known to point to.

    An answer may be as old as a push is on its way, so only what differs for longer counts.
    """
    surprising: set[str] = set()
    for repository_id, tag, digest, last_at in select_by_key(connection, _LAST_WORD, sorted(latest)):
        pull = latest[repository_id, tag]
        if (digest is None or bytes(digest) != pull.digest.to_bytes()) and pull.at > from_micros(last_at) + PULL_RACE:
            surprising.add(pull.repository)
    return surprising
