"""Which answers are sent compressed? Those of some size, to clients that take gzip; never streams of events."""

from __future__ import annotations

from typing import Final

from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp

_LEAST_BYTES: Final = 1_000
# Rows are repetitive: more effort than this costs the most and gains the least.
_LEVEL: Final = 2


class Compressed(GZipMiddleware):
    """An application whose answers are compressed for whoever takes that."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(app, minimum_size=_LEAST_BYTES, compresslevel=_LEVEL)
