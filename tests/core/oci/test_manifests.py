"""Manifests of every shape that registries hold, and of every shape that they should not."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from regwarden.core.oci import media_types
from regwarden.core.oci.configs import parse_config, parse_created
from regwarden.core.oci.descriptors import MAX_SIZE_BYTES
from regwarden.core.oci.digests import Digest
from regwarden.core.oci.manifests import MAX_MANIFEST_BYTES, UnsupportedManifest, parse_manifest
from regwarden.errors import InputError
from regwarden.testing.images import (
    artifact,
    attestation,
    build_cache,
    foreign_layer,
    helm_chart,
    image,
    index,
    layer,
    real_layer,
)

HEX = "a" * 64


def descriptor(**more):
    return {"mediaType": media_types.OCI_CONFIG, "digest": f"sha256:{HEX}", "size": 1, **more}


def document(**parts):
    return json.dumps({"schemaVersion": 2, "config": descriptor(), "layers": [], **parts}).encode()


@pytest.mark.parametrize("oci", [False, True])
def test_an_image_has_its_config_and_layers_in_order(oci):
    built = image([layer("a", 5), layer("b", 7), layer("a", 5)], oci=oci)
    manifest = parse_manifest(built.payload, built.media_type)
    assert manifest.digest == built.digest
    assert manifest.size_bytes == len(built.payload)
    assert [part.size_bytes for part in manifest.layers] == [5, 7, 5]
    assert manifest.config is not None
    assert not manifest.is_index


def test_an_index_has_children_with_platforms():
    one = image([layer("a", 5)])
    manifest = parse_manifest(index([one, attestation(one)]).payload)
    assert manifest.is_index
    assert [str(child.platform) for child in manifest.children] == ["linux/amd64", "unknown/unknown"]
    assert manifest.stored_blobs() == ()


def test_an_index_of_layers_is_a_build_cache_whose_entries_are_blobs():
    manifest = parse_manifest(build_cache([layer("a", 5), layer("b", 7)]).payload)
    assert manifest.children == ()
    assert {5, 7} <= {blob.size_bytes for blob in manifest.stored_blobs()}


def test_a_foreign_layer_is_marked_and_not_stored():
    manifest = parse_manifest(image([foreign_layer("w", 99, "https://example.com/w"), layer("a", 5)]).payload)
    assert [part.is_foreign for part in manifest.layers] == [True, False]
    assert 99 not in {blob.size_bytes for blob in manifest.stored_blobs()}


def test_an_artifact_names_its_type_and_its_subject():
    subject = image([layer("a", 5)])
    manifest = parse_manifest(artifact("application/example", [real_layer(b"x")], subject=subject).payload)
    assert manifest.artifact_type == "application/example"
    assert manifest.subject is not None
    assert manifest.subject.digest == subject.digest


def test_without_an_artifact_type_the_config_says_what_it_is():
    assert parse_manifest(helm_chart("web", "1.2.3").payload).artifact_type == media_types.HELM_CONFIG
    assert parse_manifest(image([layer("a", 5)]).payload).artifact_type == ""


@pytest.mark.parametrize(
    ("parts", "expected"),
    [({}, media_types.OCI_MANIFEST), ({"config": None, "layers": None, "manifests": []}, media_types.OCI_INDEX)],
)
def test_without_any_media_type_the_shape_decides(parts, expected):
    assert parse_manifest(document(**parts)).media_type == expected


def test_the_documents_own_media_type_wins_over_the_header():
    payload = document(mediaType=media_types.DOCKER_MANIFEST)
    assert parse_manifest(payload, media_types.OCI_MANIFEST).media_type == media_types.DOCKER_MANIFEST


@pytest.mark.parametrize(
    ("payload", "content_type"),
    [
        (b'{"schemaVersion":1,"name":"x","fsLayers":[]}', ""),
        (b"{}", media_types.SCHEMA_1_SIGNED),
        (document(mediaType=media_types.OCI_ARTIFACT_MANIFEST), ""),
        (document(mediaType="text/plain"), ""),
    ],
)
def test_other_kinds_of_manifest_are_known_as_such(payload, content_type):
    with pytest.raises(UnsupportedManifest):
        parse_manifest(payload, content_type)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[]",
        b"<html>",
        b"\xff\xfe",
        b'{"schemaVersion":2,"mediaType":5}',
        document(config=None),
        document(manifests=[]),
        document(layers=[descriptor(size=-1)]),
        document(layers=[descriptor(size=MAX_SIZE_BYTES + 1)]),
        document(layers=[descriptor(size=1.5)]),
        document(layers=[descriptor(digest="sha256:abc")]),
        document(layers=[descriptor(digest="md5:" + "a" * 32)]),
        document(layers=[descriptor()] * 20_001),
        json.dumps({"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "config": descriptor()}).encode(),
        b" " * (MAX_MANIFEST_BYTES + 1),
        b'{"a":' * 100_000,
    ],
    ids=lambda payload: repr(payload[:60]),
)
def test_what_is_no_manifest_is_an_input_error(payload):
    with pytest.raises(InputError) as caught:
        parse_manifest(payload)
    assert not isinstance(caught.value, UnsupportedManifest)


def test_hostile_text_is_bounded_and_printable():
    payload = document(
        mediaType=media_types.OCI_MANIFEST,
        artifactType="a\x00b\x1b[31m" + "x" * 1000,
        layers=[descriptor(mediaType="L" * 1000, platform={"os": "li\x00nux", "architecture": "a" * 500})],
    )
    manifest = parse_manifest(payload)
    assert manifest.artifact_type.isprintable()
    assert len(manifest.artifact_type) <= 255
    assert len(manifest.layers[0].media_type) == 255
    assert str(manifest.layers[0].platform).startswith("linux/aaa")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["schemaVersion", "mediaType", "config", "layers", "manifests", "digest", "size", "platform"]
            )
            | st.text(max_size=5),
            inner,
            max_size=6,
        )
    ),
    max_leaves=25,
)


@given(st.binary(max_size=300) | JSON.map(lambda value: json.dumps(value).encode()))
@example(b'{"schemaVersion":2,"config":{"digest":"sha256:","size":0}}')
@example(b'{"schemaVersion":99999999999999999999999}')
@example(b'{"config":{"digest":"\\ud800","size":1}}')
def test_no_bytes_raise_anything_but_the_input_error(payload):
    for parse in (parse_manifest, parse_config):
        try:
            parse(payload)
        except InputError as error:
            assert error.message


@given(
    st.text(max_size=40) | st.datetimes().map(str) | st.datetimes(timezones=st.timezones()).map(lambda d: d.isoformat())
)
@example("9999-12-31T23:59:59-23:59")
@example("0001-01-01T00:00:00+14:00")
@example("2026-01-01T00:00:00.123456789Z")
def test_a_creation_time_is_aware_utc_or_unknown(text):
    moment = parse_created(text)
    assert moment is None or moment.utcoffset() == timedelta(0)


def test_a_config_tells_time_platform_and_labels():
    facts = parse_config(
        b'{"created":"2026-01-02T03:04:05.678901234Z","os":"linux","architecture":"arm","variant":"v7",'
        b'"config":{"Labels":{"b":"2","a":null}}}'
    )
    assert facts.created_at is not None
    assert facts.created_at.isoformat() == "2026-01-02T03:04:05.678901+00:00"
    assert str(facts.platform) == "linux/arm/v7"
    assert facts.labels == (("a", ""), ("b", "2"))


@given(st.binary(max_size=100), st.sampled_from(["sha256", "sha512"]))
def test_a_digest_survives_its_stored_and_its_written_form(content, algorithm):
    digest = Digest.of(content, algorithm)
    assert Digest.parse(str(digest)) == digest
    assert Digest.from_bytes(digest.to_bytes()) == digest
    assert Digest.stored_form(str(digest)) == digest.to_bytes()
    assert digest.matches(content)
    assert not digest.matches(content + b"x")


@given(st.text(max_size=100))
@example("sha256:" + "A" * 64)
@example("sha256:" + "a" * 63)
@example("sha256:" + "٣" * 64)
@example("")
def test_no_text_makes_a_digest_that_is_none(text):
    try:
        digest = Digest.parse(text)
    except InputError as error:
        assert error.code == "bad-digest"
    else:
        assert str(digest) == text


@given(st.binary(max_size=70))
def test_damaged_stored_digests_are_noticed(stored):
    try:
        digest = Digest.from_bytes(stored)
    except InputError as error:
        assert error.code == "bad-digest"
    else:
        assert digest.to_bytes() == stored
