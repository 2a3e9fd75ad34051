"""How does Regwarden tell what it does: structured log lines on stderr, without secrets."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Final

import structlog

_SECRET_KEYS: Final = re.compile(r"password|secret|token|authorization|credential|cookie", re.IGNORECASE)
_SECRET_TEXT: Final = re.compile(
    r"(?P<scheme>\b(?:Basic|Bearer|Digest)\s+)[A-Za-z0-9+/=._~-]{6,}"
    r"|(?P<user>://[^/\s:@]*:)[^/\s@]+(?=@)"
    r"|(?P<key>\b(?:password|access_token|refresh_token|token|sig|signature|X-Amz-Signature)=)[^&\s]+",
    re.IGNORECASE,
)
_HIDDEN: Final = "(hidden)"
REQUEST_EVENT: Final = "request"
"""The event of the line about one request to a registry, which is shown earlier than other details."""


def configure_logging(*, verbose: int = 0, quiet: bool = False, shows_requests: bool = False) -> None:
    """Send log lines to stderr: warnings; with ``verbose`` 1 information, 2 everything; with ``quiet`` errors only.

    With ``shows_requests`` each request to a registry is a line too, which otherwise is a detail of ``verbose`` 2.
    """
    level = logging.ERROR if quiet else {0: logging.WARNING, 1: logging.INFO}.get(verbose, logging.DEBUG)
    drops_details = shows_requests and level == logging.INFO
    structlog.configure(
        processors=[
            *([_drop_details] if drops_details else []),
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            redact,
            structlog.dev.ConsoleRenderer(colors=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if drops_details else level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(stream=sys.stderr, level=logging.ERROR if verbose < 2 else logging.DEBUG, force=True)
    for handler in logging.getLogger().handlers:
        handler.addFilter(_redact_record)


def _drop_details(_logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor that lets of the details only the requests pass."""
    if method == "debug" and event.get("event") != REQUEST_EVENT:
        raise structlog.DropEvent
    return event


def redact(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor that hides what is, or looks like, a secret."""
    for key, value in event.items():
        if _SECRET_KEYS.search(key) and not isinstance(value, (bool, int)):
            event[key] = _HIDDEN
        elif isinstance(value, str):
            event[key] = hide_secrets(value)
    return event


def hide_secrets(text: str) -> str:
    """``text`` without authorization headers, passwords in addresses and tokens in query strings."""
    return _SECRET_TEXT.sub(lambda match: next(filter(None, match.groups())) + _HIDDEN, text)


def _redact_record(record: logging.LogRecord) -> bool:
    record.msg, record.args = hide_secrets(record.getMessage()), ()
    return True
