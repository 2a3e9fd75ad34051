import pytest

from regwarden.core.oci.media_types import BUILDKIT_CACHE_CONFIG
from regwarden.core.special_tags import special_kind, subject_of
from tests.retention import digest_of, manifest

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("name", "kind", "subject"),
    [
        (f"sha256-{HEX}.sig", "signatures", f"sha256:{HEX}"),
        (f"sha256-{HEX}.att", "attestations", f"sha256:{HEX}"),
        (f"sha256-{HEX}.sbom", "sboms", f"sha256:{HEX}"),
        (f"sha256-{HEX}", "fallback-tags", f"sha256:{HEX}"),
        (f"sha512-{HEX}", "fallback-tags", f"sha512:{HEX}"),  # it says how the digest begins
        (f"sha512-{HEX}{HEX}.sig", "signatures", f"sha512:{HEX}"),
        (f"sha256-{HEX}{HEX}.sig", None, None),
        (f"sha256-{HEX}.txt", None, None),
        (f"sha256-{HEX.upper()}", None, None),
        (f"sha256-{HEX[:-1]}", None, None),
        (f"v1-sha256-{HEX}.sig", None, None),
        (f"sha256-{HEX}.sig\n", None, None),
        ("latest", None, None),
        ("", None, None),
    ],
)
def test_names_that_clients_make_of_digests_are_special(name, kind, subject):
    assert special_kind(name, None) == kind
    assert subject_of(name) == subject


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"config_media_type": BUILDKIT_CACHE_CONFIG}, "build-caches"),
        ({"artifact_type": "application/spdx+json", "subject": digest_of("x")}, "sboms"),
        ({"artifact_type": "application/vnd.dev.sigstore.bundle.v0.3+json", "subject": digest_of("x")}, "signatures"),
        ({"artifact_type": "application/vnd.in-toto+json", "subject": digest_of("x")}, "attestations"),
        ({"artifact_type": "application/spdx+json"}, None),  # an artifact in its own right
        ({"artifact_type": "application/x", "subject": digest_of("x")}, None),
        ({}, None),
    ],
)
def test_other_special_tags_are_known_by_what_they_are(changes, kind):
    assert special_kind("any", manifest("a", **changes)) == kind
