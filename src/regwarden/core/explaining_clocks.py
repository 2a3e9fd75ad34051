"""How old is a tag by each of the named clocks, and who says so?"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from regwarden.core.explained import ClockAccount, Precision
from regwarden.core.explaining_changes import Trial
from regwarden.core.policy_matching import USE
from regwarden.core.retention_clocks import created_at
from regwarden.core.retention_roots import Root

_TOLD = "an event told"
_SEEN = "that is when it was first found so, and it may be older"


def list_clocks(trial: Trial, root: Root) -> Iterator[ClockAccount]:
    """The clocks of one root, with their sources."""
    entry, manifest = root.entry, root.manifest
    if entry is not None:
        yield _clock("tagged", entry.tagged_at, is_exact=entry.is_tagged_exact)
    if manifest is None:
        return
    yield _clock("pushed", manifest.first_seen_at, is_exact=manifest.is_pushed_exact)
    if manifest.last_pushed_at is not None:
        at = manifest.last_pushed_at
        yield ClockAccount(clock="pushed last", at=at, precision=Precision.EXACT, source=_TOLD)
    created = created_at(root, trial.now)
    source = "the image says so" if created is not None else "the image says nothing that can be true"
    precision = Precision.UNKNOWN if created is None else Precision.EXACT
    yield ClockAccount(clock="created", at=created, precision=precision, source=source)
    if not root.tag:
        yield _clock("untagged", manifest.untagged_since, is_exact=manifest.is_untagged_exact)
    yield _pulled(trial, root)


def _pulled(trial: Trial, root: Root) -> ClockAccount:
    pulls = root.manifest.pulls if root.manifest is not None else ()
    used = max((one for one in pulls if one.pull_class in USE), default=None)
    since = trial.registry.events_since
    if used is not None:
        how = f"{used.method} by {used.pull_class}, {f'of {used.tag}' if used.tag else 'by digest'}"
        return ClockAccount(clock="pulled", at=used.at, precision=Precision.EXACT, source=how)
    if since is None:
        source = "pulls were never recorded"
    else:
        source = f"not pulled by those who use images since {since:%Y-%m-%d %H:%M} UTC, when recording began"
    return ClockAccount(clock="pulled", at=None, precision=Precision.UNKNOWN, source=source)


def _clock(name: str, at: datetime | None, *, is_exact: bool) -> ClockAccount:
    if at is None:
        return ClockAccount(clock=name, at=None, precision=Precision.UNKNOWN, source="nobody knows")
    if is_exact:
        return ClockAccount(clock=name, at=at, precision=Precision.EXACT, source=_TOLD)
    return ClockAccount(clock=name, at=at, precision=Precision.AT_LATEST, source=_SEEN)
