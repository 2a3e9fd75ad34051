"""The history of a tag as the library and the command line give it: one row for each thing it pointed to."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from regwarden.core.access import EVERYTHING, Reach
from regwarden.core.history import Interval, find_interval
from regwarden.core.oci.references import parse_reference
from regwarden.core.quantities import parse_moment
from regwarden.errors import InputError, NotFound
from regwarden.store.history import TagHistory, find_histories, registry_names


def read_history(
    connection: Any, text: str, as_of: datetime | str | None, reach: Reach = EVERYTHING
) -> list[dict[str, Any]]:
    """Rows for ``[REGISTRY/]REPOSITORY:TAG``, newest first, or the one of the moment ``as_of``.

    Raises ``NotFound`` if the tag was never observed, or not yet at that moment; ``InputError`` for a bad reference
    and where several registries have had the tag. What lies outside of ``reach`` was never observed.
    """
    names = {text: name for text, name in registry_names(connection).items() if reach.touches(name)}
    reference = parse_reference(text, known_registries=names)
    if reference.tag is None:
        hint = "Write REPOSITORY:TAG, for example team/app:1.0."
        raise InputError(f"{text[:160]!r} names no tag", hint=hint, code="bad-reference")
    chosen = [names.get(reference.registry, reference.registry)] if reference.registry else []
    listed = find_histories(connection, reference.repository, reference.tag, chosen)
    found = [one for one in listed if reach.has(one.registry, one.repository)]
    if not found:
        raise NotFound(f"the tag {text} has never been observed", hint="Run: regwarden tag list")
    if len(found) > 1:
        first = found[0]
        hint = f"Name one, for example {first.registry}/{first.repository}:{first.tag}."
        raise InputError(f"several registries have had {text}", hint=hint, code="ambiguous-reference")
    moment = parse_moment(as_of) if isinstance(as_of, str) else as_of
    intervals = found[0].intervals if moment is None else (_interval_at(found[0], moment),)
    return [_row(found[0], interval) for interval in reversed(intervals)]


def _interval_at(history: TagHistory, moment: datetime) -> Interval:
    interval = find_interval(history.intervals, moment)
    if interval is None:
        first = history.intervals[0].since.isoformat(timespec="seconds")
        message = f"what {history.repository}:{history.tag} pointed to at {moment.isoformat()} is not known"
        raise NotFound(message, hint=f"It was first observed at {first}.", code="before-history")
    return interval


def _row(history: TagHistory, interval: Interval) -> dict[str, Any]:
    return {
        "registry": history.registry,
        "repository": history.repository,
        "tag": history.tag,
        "digest": str(interval.digest) if interval.digest is not None else None,
        "state": "ok" if interval.digest is not None else "gone",
        "since": interval.since,
        "until": interval.until,
        "cause": interval.cause,
    }
