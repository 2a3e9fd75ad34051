"""What is done again, and when? Transactions that PostgreSQL gave up for the sake of another one: nothing is wrong."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

from sqlalchemy.exc import DBAPIError

T = TypeVar("T")

MOST_ATTEMPTS: Final = 5
_FIRST_PAUSE_SECONDS: Final = 0.02
# https://www.postgresql.org/docs/current/errcodes-appendix.html: serialization_failure, deadlock_detected
_TRANSIENT_STATES: Final = frozenset({"40001", "40P01"})


def is_transient(error: BaseException) -> bool:
    """Whether PostgreSQL gave up a transaction because of what another one did, so that it may well succeed now."""
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) in _TRANSIENT_STATES


def pause_seconds(attempt_count: int) -> float:
    """How long to wait after so many attempts."""
    return _FIRST_PAUSE_SECONDS * 2.0**attempt_count


def repeat(attempt: Callable[[], T], most_attempts: int = MOST_ATTEMPTS) -> T:
    """The result of ``attempt``, a whole transaction, which is made again while it ends with a transient error.

    Raises the last of these errors, and whatever else ``attempt`` raises.
    """
    for number in range(1, most_attempts):
        try:
            return attempt()
        except DBAPIError as error:
            if not is_transient(error):
                raise
        time.sleep(pause_seconds(number))
    return attempt()
