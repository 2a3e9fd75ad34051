"""The company's registry is believable, the same every time, and has what the demonstration promises."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from regwarden.core.oci import media_types
from regwarden.core.oci.manifests import parse_manifest
from regwarden.testing.company import company_content
from regwarden.testing.content import Content

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


@pytest.fixture(scope="module")
def company() -> Content:
    return company_content(NOW)


def _facts(content: Content):
    return {name: (repository.tags, set(repository.blobs)) for name, repository in content.repositories.items()}


def test_the_same_moment_and_seed_give_the_same_registry(company):
    assert _facts(company_content(NOW)) == _facts(company)


def test_another_seed_gives_other_sizes(company):
    assert _facts(company_content(NOW, seed=8)) != _facts(company)


def test_it_is_as_large_as_a_small_company(company):
    assert 40 <= len(company.repositories) <= 60
    assert 500 <= company.tag_count <= 720
    blobs = {
        blob.digest: blob.size_bytes
        for repository in company.repositories.values()
        for blob in repository.blobs.values()
    }
    assert 50 * 2**30 < sum(blobs.values()) < 300 * 2**30
    in_memory = {blob.digest: blob.content or b"" for r in company.repositories.values() for blob in r.blobs.values()}
    assert sum(map(len, in_memory.values())) < 5 * 2**20


def test_every_manifest_parses_and_only_one_index_misses_a_child(company):
    missing = []
    for repository in company.repositories.values():
        for stored in repository.manifests.values():
            manifest = parse_manifest(stored.payload, stored.media_type)
            assert manifest.digest == stored.digest
            assert all(part.digest in repository.blobs for part in manifest.stored_blobs())
            missing += [(repository.name, c) for c in manifest.children if c.digest not in repository.manifests]
    assert [name for name, _ in missing] == ["tools/release-bot"]


def test_promoted_copies_have_the_digests_of_their_source(company):
    source = company.repositories["shop/web"]
    for stage in ("staging", "prod"):
        copy = company.repositories[f"{stage}/shop/web"]
        assert set(copy.tags.values()) <= set(source.tags.values())
        assert copy.tags["current"] != copy.tags["previous"]


def test_services_share_the_layers_of_their_bases(company):
    def layers(name: str):
        return {blob.digest for blob in company.repositories[name].blobs.values() if blob.content is None}

    assert layers("base/debian") & layers("shop/web") & layers("payments/api") & layers("ml/train")


def test_it_has_every_kind_of_thing_the_demonstration_promises(company):
    tags = {f"{name}:{tag}" for name, repository in company.repositories.items() for tag in repository.tags}
    kinds = {m.media_type for repository in company.repositories.values() for m in repository.manifests.values()}
    assert kinds == set(media_types.READABLE_MANIFESTS)
    assert any(tag.endswith(".sig") for tag in tags)
    assert any(tag.rpartition(":")[2].startswith("feature-") for tag in tags)
    assert any(tag.rpartition(":")[2].startswith("pr-") for tag in tags)
    assert {"shop/web:latest", "shop/web:stable", "cache/shop-web:buildcache-main"} <= tags
    assert not company.repositories["sandbox/empty"].has_tag_list


def test_no_image_is_from_the_future_and_some_branches_are_stale(company):
    created = []
    for repository in company.repositories.values():
        for tag, digest in repository.tags.items():
            manifest = parse_manifest(repository.manifests[digest].payload)
            if tag.startswith("feature-") and manifest.config is not None:
                config = json.loads(repository.blobs[manifest.config.digest].content or b"{}")
                created.append(datetime.fromisoformat(config["created"]))
    assert max(created) < NOW
    assert sum(moment < NOW - timedelta(days=180) for moment in created) > 10
