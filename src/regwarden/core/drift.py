"""How old must an event be to be overruled by a crawl, and what kind of change did events fail to tell of?"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Final

from regwarden.core.history import CRAWL_MARGIN

# A Date header has whole seconds (RFC 9110, section 5.6.7) and is read a little later: less than this is no skew.
_UNMEASURABLE: Final = timedelta(seconds=2)


class DriftKind(StrEnum):
    """What happened to a tag without an event that told of it."""

    MISSED_PUSH = "missed-push"
    MISSED_MOVE = "missed-move"
    MISSED_DELETE = "missed-delete"
    MISSED_RESTORE = "missed-restore"


def crawl_margin(skew: timedelta | None) -> timedelta:
    """How much older than a crawl's request an event must be to be overruled by the answer.

    ``skew`` is the registry's clock minus ours, where it was measured.
    """
    if skew is None or abs(skew) < _UNMEASURABLE:
        return CRAWL_MARGIN
    return CRAWL_MARGIN + abs(skew)


def loss_rate(confirmed_count: int, missed_count: int) -> float | None:
    """The share of changes that no event told of, from 0 to 1; ``None`` if nothing is known to have changed."""
    total = confirmed_count + missed_count
    return missed_count / total if total else None
