"""Which tags belong to other images: signatures, attestations, bills of materials, fallback tags, build caches?"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from regwarden.core.observed import ObservedManifest
from regwarden.core.oci.media_types import BUILDKIT_CACHE_CONFIG
from regwarden.core.policy_matching import SpecialKind

# cosign's scheme: the digest with a hyphen and a suffix. The distribution specification (1.1, "Referrers Tag Schema")
# cuts the encoded part of a digest at 64 characters, so that of sha512 says only how the digest begins.
_NAMED: Final = re.compile(r"(sha256|sha512)-([0-9a-f]{64})([0-9a-f]{64})?(?:\.(sig|att|sbom))?")
_KINDS: Final = {
    None: SpecialKind.FALLBACK_TAGS,
    "sig": SpecialKind.SIGNATURES,
    "att": SpecialKind.ATTESTATIONS,
    "sbom": SpecialKind.SBOMS,
}
SPECIAL_STARTS: Final = ("sha256-", "sha512-")
"""How tags begin that are named after a digest."""

_CUT_LENGTH: Final = len("sha512:") + 64
_BY_ARTIFACT_TYPE: Final = {
    "application/vnd.dev.cosign.artifact.sig.v1+json": SpecialKind.SIGNATURES,
    "application/vnd.dev.sigstore.bundle.v0.3+json": SpecialKind.SIGNATURES,
    "application/vnd.cncf.notary.signature": SpecialKind.SIGNATURES,
    "application/vnd.dev.cosign.artifact.att.v1+json": SpecialKind.ATTESTATIONS,
    "application/vnd.in-toto+json": SpecialKind.ATTESTATIONS,
    "application/vnd.dsse.envelope.v1+json": SpecialKind.ATTESTATIONS,
    "application/vnd.dev.cosign.artifact.sbom.v1+json": SpecialKind.SBOMS,
    "application/spdx+json": SpecialKind.SBOMS,
    "application/vnd.cyclonedx+json": SpecialKind.SBOMS,
}


def special_kind(tag_name: str, manifest: ObservedManifest | None) -> SpecialKind | None:
    """What kind of special tag this is; ``None`` for one of people. An empty name is for a manifest without a tag.

    By the name where that says it, otherwise by what the manifest is: a build cache by its config, a referrer by its
    artifact type, which says nothing of a manifest without a subject (that is an artifact in its own right).
    """
    if tag_name.startswith(SPECIAL_STARTS) and (found := _parse(tag_name)) is not None:
        return _KINDS[found[4]]
    if manifest is None:
        return None
    artifact_type = manifest.artifact_type
    if BUILDKIT_CACHE_CONFIG in (manifest.config_media_type, artifact_type):
        return SpecialKind.BUILD_CACHES
    return _BY_ARTIFACT_TYPE.get(artifact_type) if manifest.subject is not None else None


def subject_of(tag_name: str) -> str | None:
    """The digest that a special tag names: ``sha256:<hex>`` of ``sha256-<hex>.sig``; ``None`` if it names none.

    Of sha512 as much as is told for certain: ``sha512:`` and the first 64 digits; ``cut_digests`` finds the rest.
    """
    found = _parse(tag_name)
    return f"{found[1]}:{found[2]}" if found is not None else None


def cut_digests(digests: Iterable[str]) -> dict[str, str]:
    """The digests of sha512 by how much of them ``subject_of`` tells."""
    return {digest[:_CUT_LENGTH]: digest for digest in digests if digest.startswith("sha512:")}


def _parse(tag_name: str) -> re.Match[str] | None:
    if not tag_name.startswith(SPECIAL_STARTS):
        return None
    found = _NAMED.fullmatch(tag_name)
    return None if found is None or (found[3] and found[1] == "sha256") else found
