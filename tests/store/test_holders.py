"""Who holds or needs a digest, and what one manifest is."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import insert

from regwarden.core.access import Area, Reach
from regwarden.core.oci import media_types
from regwarden.core.oci.digests import Digest
from regwarden.core.patterns import parse_pattern
from regwarden.errors import InputError, NotFound
from regwarden.store import schema
from regwarden.store.database import Database
from regwarden.store.holders import ContentReport, find_content
from regwarden.store.packing import pack_blob_ids

# Both sides of a packed list of these hold the bytes of 1, across the border of two ids.
UNALIGNED = (65_536, 131_072)
FOREIGN_LAYER = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"


def _descriptor(media_type: str, digest: Digest, size: int = 10) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": str(digest), "size": size}


@dataclass
class Content:
    """A nested index of one image in ``prod``, its signature, and copies elsewhere."""

    layer: Digest = field(default_factory=lambda: Digest.of(b"layer"))
    foreign: Digest = field(default_factory=lambda: Digest.of(b"foreign"))
    config: Digest = field(default_factory=lambda: Digest.of(b"config"))
    orphan_subject: Digest = field(default_factory=lambda: Digest.of(b"orphan subject"))

    def __post_init__(self) -> None:
        layer = _descriptor("application/vnd.oci.image.layer.v1.tar", self.layer)
        document = {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_MANIFEST,
            "config": _descriptor(media_types.OCI_CONFIG, self.config),
            "layers": [layer, layer, _descriptor(FOREIGN_LAYER, self.foreign) | {"urls": ["https://example.com/x"]}],
            "annotations": {"org.example": "yes"},
        }
        self.payload = json.dumps(document).encode()
        self.image = Digest.of(self.payload)
        self.index, self.outer, self.signature, self.other = (
            Digest.of(name) for name in (b"index", b"outer", b"signature", b"other")
        )

    def insert(self, connection: Any) -> None:
        def add(table: Any, *rows: dict[str, Any]) -> None:
            for row in rows:
                connection.execute(insert(table).values(**row))

        for number, name in ((1, "prod"), (2, "dev")):
            url = f"https://{name}.example.com"
            add(schema.registries, {"id": number, "name": name, "url": url, "kind": "x", "first_seen_at": 0})
        for number, (registry, name, deleted_at) in enumerate(
            ((1, "app", None), (1, "base", None), (1, "gone", 5), (2, "app", None)), start=1
        ):
            values = {"registry_id": registry, "name": name, "first_seen_at": 0, "state": "complete"}
            add(schema.repositories, values | {"id": number, "deleted_at": deleted_at})
        for number, digest in (
            (1, self.layer),
            (2, self.config),
            *((n, Digest.of(str(n).encode())) for n in UNALIGNED),
        ):
            add(schema.blobs, {"id": number, "digest": digest.to_bytes(), "media_type": "l", "size_bytes": 10})
        self._insert_manifests(add)
        add(schema.manifest_children, {"parent_id": 2, "position": 0, "child_id": 1, "platform": "linux/arm64"})
        add(schema.manifest_children, {"parent_id": 3, "position": 0, "child_id": 2})
        existing = ((1, 1), (1, 2), (1, 3), (1, 4), (2, 5), (3, 1), (4, 1))
        for repository_id, manifest_id in existing:
            values = {"repository_id": repository_id, "manifest_id": manifest_id, "first_seen_at": 0}
            add(schema.repository_manifests, values)
        stem = f"sha256-{self.image.hex}"
        tags: tuple[tuple[int, str, int | None], ...]
        tags = ((1, "1.0", 1), (1, "multi", 3), (2, stem, 5), (2, f"{stem}.sig", None), (2, f"{stem}x", 5), (3, "x", 1))
        for repository_id, name, pointed_to in tags:
            values = {"repository_id": repository_id, "name": name, "manifest_id": pointed_to, "state": "ok"}
            add(schema.tags, values | {"first_seen_at": 0, "tagged_at": 0})

    def _insert_manifests(self, add: Any) -> None:
        packed, layer_count = pack_blob_ids([1], [2])
        image = {
            "id": 1,
            "digest": self.image.to_bytes(),
            "state": "read",
            "media_type": media_types.OCI_MANIFEST,
            "config_digest": self.config.to_bytes(),
            "config_state": "read",
            "size_bytes": len(self.payload),
            "blob_ids": packed,
            "layer_count": layer_count,
            "labels": '{"team": "blue"}',
            "platform": "linux/amd64",
            "payload": zlib.compress(self.payload),
        }
        add(schema.manifests, image)
        for number, digest in ((2, self.index), (3, self.outer)):
            values = {"id": number, "digest": digest.to_bytes(), "state": "read", "media_type": media_types.OCI_INDEX}
            add(schema.manifests, values | {"is_index": 1, "size_bytes": 5, "blob_ids": b""})
        plain = {"state": "read", "media_type": "m", "size_bytes": 5, "blob_ids": b""}
        signature = plain | {"id": 4, "digest": self.signature.to_bytes()}
        add(schema.manifests, signature | {"subject_digest": self.image.to_bytes(), "artifact_type": "signature"})
        other = plain | {"id": 5, "digest": self.other.to_bytes()}
        unaligned, _ = pack_blob_ids(UNALIGNED)
        subject = self.orphan_subject.to_bytes()
        add(schema.manifests, other | {"blob_ids": unaligned, "layer_count": 2, "subject_digest": subject})


@pytest.fixture
def content(database: Database) -> Content:
    made = Content()
    database.write_now(made.insert)
    return made


def _find(database: Database, text: str, registry: str | None = None) -> ContentReport:
    found = database.read_now(lambda connection: find_content(connection, text, registry))
    assert found is not None
    return found


def _uses(report: ContentReport) -> list[tuple[str, str, str, str]]:
    return [(use.registry, use.repository, use.tag, use.via) for use in report.uses]


def test_a_layer_is_needed_by_images_and_by_every_index_above_them(database: Database, content: Content) -> None:
    report = _find(database, str(content.layer))
    assert report.kinds == ("layer",)
    assert report.manifests == (str(content.image),)
    assert report.indexes == tuple(sorted((str(content.index), str(content.outer))))
    assert _uses(report) == [
        ("dev", "app", "", "layer"),
        ("prod", "app", "", "index"),
        ("prod", "app", "1.0", "layer"),
        ("prod", "app", "multi", "index"),
    ]
    assert (report.use_count, report.repository_count, report.manifest_count) == (4, 2, 1)


def test_places_in_a_deleted_repository_do_not_count(database: Database, content: Content) -> None:
    assert "gone" not in {use.repository for use in _find(database, str(content.image)).uses}


def test_the_places_can_be_limited_to_one_registry_by_name_or_host(database: Database, content: Content) -> None:
    for name in ("dev", "dev.example.com"):
        assert _uses(_find(database, str(content.layer), name)) == [("dev", "app", "", "layer")]
    with pytest.raises(NotFound):
        _find(database, str(content.layer), "nowhere")


def test_a_config_is_found_as_one(database: Database, content: Content) -> None:
    assert _find(database, content.config.hex).kinds == ("config",)


def test_ids_are_compared_whole_in_packed_lists(database: Database, content: Content) -> None:
    assert str(content.other) not in _find(database, str(content.layer)).manifests
    assert _find(database, str(Digest.of(b"131072"))).manifests == (str(content.other),)


def test_a_subject_that_is_not_there_is_known_by_its_referrers(database: Database, content: Content) -> None:
    report = _find(database, str(content.orphan_subject))
    assert report.kinds == ("subject",)
    assert [(one.digest, one.repository, one.kind) for one in report.referrers] == [
        (str(content.other), "base", "subject")
    ]


def test_referrers_are_found_by_subject_fallback_tag_and_cosign_tag(database: Database, content: Content) -> None:
    stem = f"sha256-{content.image.hex}"
    assert [(one.kind, one.tag, one.digest) for one in _find(database, str(content.image)).referrers] == [
        ("subject", "", str(content.signature)),
        ("fallback-tag", stem, str(content.other)),
        ("cosign-tag", f"{stem}.sig", None),
    ]


def test_a_manifest_is_shown_with_its_layers_as_listed(database: Database, content: Content) -> None:
    manifest = _find(database, str(content.image)).manifest
    assert manifest is not None
    assert [(layer.digest, layer.is_foreign) for layer in manifest.layers] == [
        (str(content.layer), False),
        (str(content.layer), False),
        (str(content.foreign), True),
    ]
    assert manifest.config is not None
    assert manifest.config.digest == str(content.config)
    assert manifest.labels == {"team": "blue"}
    assert manifest.annotations == {"org.example": "yes"}
    assert manifest.platforms == ("linux/amd64",)


def test_a_manifest_whose_bytes_were_not_kept_shows_its_known_layers(database: Database, content: Content) -> None:
    manifest = _find(database, str(content.other)).manifest
    assert manifest is not None
    assert [layer.digest for layer in manifest.layers] == [str(Digest.of(str(n).encode())) for n in UNALIGNED]


def test_an_index_shows_its_children(database: Database, content: Content) -> None:
    report = _find(database, str(content.index))
    assert report.kinds == ("index",)
    assert report.manifest is not None
    assert [(child.digest, child.platform) for child in report.manifest.children] == [
        (str(content.image), "linux/arm64")
    ]


def test_unique_first_digits_are_enough(database: Database, content: Content) -> None:
    for text in (content.layer.hex[:6], f"sha256:{content.layer.hex[:7]}", content.layer.hex.upper()[:20]):
        assert _find(database, text).digest == str(content.layer)


@pytest.mark.parametrize("text", ["", "abc12", "sha256:abc12", "sha256:xyzxyz", "md5:abcdef", "a" * 129, "latest"])
def test_what_is_no_digest_is_refused(database: Database, text: str) -> None:
    with pytest.raises(InputError) as raised:
        database.read_now(lambda connection: find_content(connection, text))
    assert raised.value.code == "bad-digest"


def test_a_digest_that_nobody_knows_is_not_found(database: Database, content: Content) -> None:
    for text in (str(Digest.of(b"nothing")), f"sha512:{content.layer.hex}"):
        assert database.read_now(lambda connection: find_content(connection, text)) is None  # noqa: B023 -- run at once


def test_first_digits_of_several_digests_name_the_candidates(database: Database, content: Content) -> None:
    for number in range(10, 18):
        row = {"id": number, "digest": b"\x01\xab\xcd\xef" + bytes([number]) * 29, "media_type": "l", "size_bytes": 1}
        database.write_now(lambda connection: connection.execute(insert(schema.blobs).values(**row)))  # noqa: B023
    with pytest.raises(InputError) as raised:
        database.read_now(lambda connection: find_content(connection, "abcdef"))
    assert raised.value.code == "ambiguous-digest"
    assert raised.value.message.count("sha256:") == 5


def test_what_lies_outside_makes_no_digest_ambiguous(database: Database, content: Content) -> None:
    alike = content.image.to_bytes()[:-1] + bytes([content.image.to_bytes()[-1] ^ 1])
    row = {"id": 90, "digest": alike, "media_type": "l", "size_bytes": 1}
    database.write_now(lambda connection: connection.execute(insert(schema.blobs).values(**row)))
    text, area = content.image.hex[:8], Area((parse_pattern("prod"),), (parse_pattern("app"),))
    with pytest.raises(InputError):
        database.read_now(lambda connection: find_content(connection, text))
    found = database.read_now(lambda connection: find_content(connection, text, reach=Reach((area,))))
    assert found is not None
    assert found.digest == str(content.image)
    assert database.read_now(lambda connection: find_content(connection, text, reach=Reach())) is None
