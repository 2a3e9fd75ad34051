"""Does what others did in a repository since it was looked at concern the steps that are still to be done?

A busy repository would otherwise have to be thought over again before every step. A new image under a new tag gives no
other one a reason to stay: it is about nothing and lists nothing that was there before, so no fact about others
changes, and where rules count, an addition only costs others their places. Whatever else happens, or is not known to
the last byte, means that everything is looked at again; and so does the passing of time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from regwarden.core.oci.digests import Digest
from regwarden.core.oci.manifests import parse_manifest
from regwarden.core.special_tags import subject_of
from regwarden.errors import InputError
from regwarden.flows.apply_records import Considered
from regwarden.store.connections import Connection
from regwarden.store.contents import load_payloads
from regwarden.store.races import Touch

LONGEST: Final = timedelta(seconds=30)
"""How old a look at a repository may be in which anything happened."""

_MOST_TOUCHES: Final = 200
_MOST_MANIFESTS: Final = 1000


def is_unconcerned(connection: Connection, known: Considered, touches: Sequence[Touch], now: datetime) -> bool:
    """Whether all ``touches`` since the look are pushes of new tags that lead to nothing but new manifests.

    False wherever that is not certain. Pulls do not belong into ``touches``.
    """
    if not touches:
        return True
    is_recent = known.looked_at is not None and now - known.looked_at <= LONGEST
    if not known.outlasts_additions or not is_recent or len(touches) > _MOST_TOUCHES:
        return False
    # Blobs without a manifest after them are the beginning of a push: nobody knows of what.
    if touches[-1].target != "manifest" or not all(_is_addition(one, known) for one in touches):
        return False
    return _are_new(connection, {one.digest for one in touches if one.target == "manifest"}, known.existing)


def _is_addition(touch: Touch, known: Considered) -> bool:
    if touch.target != "manifest":
        return touch.action in ("push", "mount")
    is_new = touch.action == "push" and bool(touch.digest and touch.tag) and touch.tag not in known.tags
    return is_new and subject_of(touch.tag) is None


def _are_new(connection: Connection, digests: Iterable[str], existing: frozenset[str]) -> bool:
    """Whether neither these nor anything that they list at whatever depth existed before, and none has a subject."""
    seen: set[str] = set()
    level = set(digests)
    while level:
        seen |= level
        if not existing.isdisjoint(level) or len(seen) > _MOST_MANIFESTS:
            return False
        asked = [Digest.parse(one) for one in sorted(level)]
        payloads = load_payloads(connection, asked)
        level = set()
        for digest in asked:
            found = payloads.get(digest)
            if found is None or not digest.matches(found[1]):
                return False
            try:
                manifest = parse_manifest(found[1], found[0])
            except InputError:
                return False
            if manifest.subject is not None:
                return False
            level |= {str(child.digest) for child in manifest.children} - seen
    return True
