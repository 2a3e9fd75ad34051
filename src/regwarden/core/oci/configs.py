"""Image configs: when was it created, for what platform, with which labels (OCI image specification, config.md)?"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import msgspec

from regwarden.core.oci.descriptors import Platform, build_platform
from regwarden.errors import InputError

MAX_CONFIG_BYTES: Final = 8 * 1024 * 1024
MAX_LABEL_COUNT: Final = 1000
MAX_LABEL_LENGTH: Final = 65_536
CREATED_ANNOTATION: Final = "org.opencontainers.image.created"


@dataclass(frozen=True, slots=True)
class ConfigFacts:
    """What a config says; ``created_at`` (aware UTC) and ``platform`` are ``None`` where it does not."""

    created_at: datetime | None = None
    platform: Platform | None = None
    labels: tuple[tuple[str, str], ...] = ()


class _Execution(msgspec.Struct):
    Labels: dict[str, str | None] | None = None


class _Config(msgspec.Struct):
    created: str | None = None
    architecture: str | None = None
    os: str | None = None
    variant: str | None = None
    config: _Execution | None = None


_decode = msgspec.json.Decoder(_Config, strict=True).decode


def parse_config(payload: bytes) -> ConfigFacts:
    """Read an image config's bytes; raises ``InputError`` (code ``bad-config``), never anything else."""
    try:
        raw = _decode(payload)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InputError(f"not a valid image config: {str(error)[:200]}", code="bad-config") from None
    has_platform = bool(raw.os or raw.architecture)
    labels = (raw.config.Labels if raw.config else None) or {}
    return ConfigFacts(
        created_at=parse_created(raw.created),
        platform=build_platform(raw.os or "", raw.architecture or "", raw.variant or "") if has_platform else None,
        labels=tuple(
            (key[:MAX_LABEL_LENGTH], (value or "")[:MAX_LABEL_LENGTH])
            for key, value in sorted(labels.items())[:MAX_LABEL_COUNT]
        ),
    )


def parse_created(text: str | None) -> datetime | None:
    """An RFC 3339 moment as aware UTC, or ``None`` for anything absent, malformed or without a zone."""
    if not text:
        return None
    try:
        moment = msgspec.convert(text, datetime)
        return moment.astimezone(UTC) if moment.tzinfo is not None else None
    except (msgspec.ValidationError, OverflowError, ValueError):
        return None
