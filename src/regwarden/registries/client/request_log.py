"""Which requests were sent, and how long did each take? One line each for those who ask for it, without secrets."""

from __future__ import annotations

import logging
from typing import Final

import structlog
from yarl import URL

from regwarden.registries.client.diagnostics import Redactor
from regwarden.telemetry import REQUEST_EVENT

_log = structlog.get_logger("regwarden.requests")
_HIDDEN: Final = "(hidden)"
# Signed addresses have secrets under many names: shown are the values of those that are known to have none.
_SHOWN: Final = frozenset(
    {
        "account",
        "artifacttype",
        "before",
        "cursor",
        "digest",
        "from",
        "id_after",
        "last",
        "membership",
        "mount",
        "n",
        "order_by",
        "page",
        "pagination",
        "per_page",
        "referrers",
        "scope",
        "service",
        "simple",
        "size",
        "sort",
        "statistics",
        "tags",
        "tags_count",
        "top_level_only",
    }
)


def log_request(method: str, url: URL, status: int, *, seconds: float, subject: str, redact: Redactor) -> None:
    """Log a request that came to an end after ``seconds``; ``status`` 0 means that there was no answer.

    Without a log that was set up nothing is written: structlog by itself would write to stdout.
    """
    if not structlog.is_configured():
        return
    # A program that uses us may have loggers of its own, not all of which know their level.
    knows_level = hasattr(structlog.get_config()["wrapper_class"], "is_enabled_for")
    if knows_level and not _log.is_enabled_for(logging.DEBUG):
        return
    _log.debug(
        REQUEST_EVENT,
        method=method,
        url=redact.clean(shown_url(url)),
        status=status,
        seconds=round(seconds, 4),
        subject=redact.clean(subject),
    )


def shown_url(url: URL) -> str:
    """``url`` as people may see it: no user, no fragment, only values that are known to be harmless."""
    shown = [(name, value if name.lower() in _SHOWN else _HIDDEN) for name, value in url.query.items()]
    return str(url.with_user(None).with_fragment(None).with_query(shown))
