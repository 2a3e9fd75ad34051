"""Content and images of the sample registry: cheap, deterministic, and what real tools would have pushed."""

from __future__ import annotations

import hashlib
import json

import pytest

from regwarden.core.oci import media_types
from regwarden.core.oci.digests import Digest
from regwarden.core.oci.manifests import parse_manifest
from regwarden.testing.content import Blob, Content
from regwarden.testing.images import (
    artifact,
    attestation,
    build_cache,
    cosign_signature,
    foreign_layer,
    helm_chart,
    image,
    image_config,
    index,
    layer,
    real_layer,
    referrers_tag,
    sbom,
    signature_tag,
)


def test_a_declared_blob_has_its_size_and_the_same_bytes_every_time():
    blob = Blob.declared("x", 200_000)
    whole = b"".join(blob.chunks())
    assert len(whole) == 200_000
    assert b"".join(Blob.declared("x", 200_000).chunks()) == whole
    assert b"".join(blob.chunks(65_000, 140_001)) == whole[65_000:140_001]
    assert blob.content is None


def test_a_real_blob_hashes_to_its_digest():
    blob = Blob.of(b"z" * 100_000)
    assert hashlib.sha256(b"".join(blob.chunks())).hexdigest() == blob.digest.hex


@pytest.mark.parametrize(("oci", "kind"), [(True, media_types.OCI_MANIFEST), (False, media_types.DOCKER_MANIFEST)])
def test_an_image_parses_to_its_config_and_layers(oci, kind):
    built = image([layer("a", 1000), layer("b", 2000)], image_config("linux/arm64/v8"), oci=oci)
    manifest = parse_manifest(built.payload, built.media_type)
    assert manifest.media_type == built.media_type == kind
    assert manifest.digest == built.digest
    assert [part.size_bytes for part in manifest.layers] == [1000, 2000]
    config = json.loads(built.blobs[0].content or b"")
    assert (config["architecture"], config["variant"], len(config["rootfs"]["diff_ids"])) == ("arm64", "v8", 2)
    assert manifest.config is not None
    assert manifest.config.digest == built.blobs[0].digest


def test_an_index_names_platforms_and_marks_attestations():
    children = [image([layer(name, 10)], image_config(name)) for name in ("linux/amd64", "linux/arm64/v8")]
    built = index([*children, attestation(children[0])])
    manifest = parse_manifest(built.payload)
    assert [str(child.platform) for child in manifest.children] == ["linux/amd64", "linux/arm64/v8", "unknown/unknown"]
    annotations = dict(manifest.children[2].annotations)
    assert annotations["vnd.docker.reference.type"] == "attestation-manifest"
    assert annotations["vnd.docker.reference.digest"] == str(children[0].digest)


def test_a_build_cache_index_lists_blobs_and_no_manifests():
    built = build_cache([layer("a", 10), layer("b", 20)])
    manifest = parse_manifest(built.payload)
    assert manifest.children == ()
    assert {part.digest for part in manifest.blobs} == {blob.digest for blob in built.blobs}


def test_a_foreign_layer_is_named_but_not_stored():
    foreign = foreign_layer("w", 5000, "https://vendor.example.com/w")
    built = image([foreign, layer("own", 10)], oci=False)
    assert [part.is_foreign for part in parse_manifest(built.payload).layers] == [True, False]
    assert foreign.blob.digest not in {blob.digest for blob in built.blobs}


def test_artifacts_charts_and_signatures_parse_as_what_they_are():
    subject = image([])
    assert parse_manifest(sbom(subject).payload).subject is not None
    assert parse_manifest(artifact("application/x", [real_layer(b"1")]).payload).artifact_type == "application/x"
    assert parse_manifest(helm_chart("shop", "1.0.0").payload).artifact_type == media_types.HELM_CONFIG
    signature = cosign_signature(subject.digest, "app")
    assert parse_manifest(signature.payload).layers[0].media_type == "application/vnd.dev.cosign.simplesigning.v1+json"
    assert signature_tag(subject.digest) == f"sha256-{subject.digest.hex}.sig"
    assert referrers_tag(subject.digest) == f"sha256-{subject.digest.hex}"


def test_adding_an_index_stores_everything_it_needs_except_what_is_omitted():
    children = [image([layer("a", 10)]), image([layer("b", 10)])]
    repository = Content().repository("app")
    repository.add(index(children), "1.0", "latest", omit=[children[1].digest])
    assert set(repository.tags) == {"1.0", "latest"}
    assert children[0].digest in repository.manifests
    assert children[1].digest not in repository.manifests


def test_deleting_a_manifest_takes_its_tags_and_nothing_else():
    repository = Content().repository("app")
    doomed = repository.add(image([layer("a", 10)]), "1", "2")
    repository.add(image([layer("b", 10)]), "3")
    blob_count = len(repository.blobs)
    assert repository.delete_manifest(doomed) == ("1", "2")
    assert set(repository.tags) == {"3"}
    assert len(repository.blobs) == blob_count


def test_referrers_are_found_by_subject_until_they_are_deleted():
    repository = Content().repository("app")
    subject = image([])
    repository.add(subject, "1")
    bill = repository.add(sbom(subject))
    assert [found.digest for found in repository.list_referrers(subject.digest)] == [bill]
    repository.delete_manifest(bill)
    assert repository.list_referrers(subject.digest) == ()
    assert repository.list_referrers(Digest.of(b"other")) == ()


def test_a_child_that_starts_with_a_digit_is_listed_before_its_parent():
    content = Content()
    for name in ("a", "a/1b", "a/b", "a-b", "b"):
        content.repository(name)
    assert content.listed_names() == ["a/1b", "a", "a/b", "a-b", "b"]
