"""When was a tag or manifest last pushed, tagged or untagged, as far as anybody knows? What ``min-age`` looks at."""

from __future__ import annotations

from datetime import datetime, timedelta

from regwarden.core.observed import ObservedManifest, ObservedTag


def last_touched(manifest: ObservedManifest | None, tag: ObservedTag | None = None) -> datetime | None:
    """The latest push, tagging or untagging that is known of; ``None`` if nothing is.

    Clocks that are known as "at latest then" count in full: it may have been then.
    """
    latest = None if tag is None else tag.tagged_at
    if manifest is None:
        return latest
    if latest is None or manifest.first_seen_at > latest:
        latest = manifest.first_seen_at
    if manifest.last_pushed_at is not None and manifest.last_pushed_at > latest:
        latest = manifest.last_pushed_at
    if tag is None and manifest.untagged_since is not None and manifest.untagged_since > latest:
        latest = manifest.untagged_since
    return latest


def is_young(touched_at: datetime | None, min_age: timedelta, now: datetime) -> bool:
    """Whether something that was last touched then is not older than a minimum age. What is not known is young."""
    return bool(min_age) and (touched_at is None or touched_at >= now - min_age)
