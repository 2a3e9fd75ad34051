"""Descriptors and platforms (OCI image specification, descriptor.md and image-index.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from regwarden.core.oci.digests import Digest
from regwarden.core.text import printable

# Declared sizes are hostile input; nothing real comes near a pebibyte.
MAX_SIZE_BYTES: Final = 2**50
MAX_PLATFORM_PART_LENGTH: Final = 64


@dataclass(frozen=True, slots=True)
class Platform:
    """What a manifest runs on; ``variant`` may be empty."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


def build_platform(os: str, architecture: str, variant: str) -> Platform:
    """A platform from what a document says, bounded and printable."""
    return Platform(*(printable(part, MAX_PLATFORM_PART_LENGTH) for part in (os, architecture, variant)))


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A typed, sized pointer to content.

    ``size_bytes`` is what the document declares. ``is_foreign`` marks layers that the registry does not store
    (they name URLs elsewhere). ``platform`` and ``artifact_type`` stand only in an index's entries.
    """

    media_type: str
    digest: Digest
    size_bytes: int
    platform: Platform | None = None
    artifact_type: str = ""
    is_foreign: bool = False
    annotations: tuple[tuple[str, str], ...] = ()
