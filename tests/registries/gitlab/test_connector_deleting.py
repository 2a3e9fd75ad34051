"""What the connector for a GitLab removes, by whose right, and what it leaves alone; in each mode of the registry."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from regwarden.core.projects import RepositoryStatus
from regwarden.errors import RegistryDenied, RegistryError
from regwarden.registries.api import Ability, Removal
from regwarden.registries.client.credentials import Basic
from regwarden.registries.client.limits import Limits
from regwarden.registries.client.settings import ClientSettings
from regwarden.registries.gitlab.connector import GitLabConnector, open_gitlab
from regwarden.registries.gitlab.finding import Finder
from regwarden.registries.gitlab.settings import GitLabSettings
from regwarden.testing.images import image, layer
from tests.gitlab_double.recording import Fault, FaultKind
from tests.gitlab_double.running import MODES, GitLab, running_gitlab

_numbers = itertools.count(1)


@pytest.fixture(scope="module", params=MODES)
def gitlab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitLab]:
    with running_gitlab(tmp_path_factory.mktemp("gitlab"), mode=request.param) as running:
        yield running


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitLab]:
    with running_gitlab(tmp_path_factory.mktemp("database"), mode="database") as running:
        yield running


@asynccontextmanager
async def connected(running: GitLab, token: str) -> AsyncIterator[GitLabConnector]:
    running.forget_requests()
    running.faults.clear()
    client = ClientSettings(running.registry_url, credentials=Basic("regwarden", running.tokens[token]))
    connector = open_gitlab(GitLabSettings(client, running.url), Limits(retry_wait_seconds=0.05))
    try:
        yield connector
    finally:
        await connector.close()


def push(running: GitLab, repository: str, *tags: str) -> str:
    """An image that no other test has, under these tags; returns its digest."""
    built = image([layer(f"{repository} {next(_numbers)}", 100)])
    for tag in tags:
        running.push(repository, built, tag)
    return str(built.digest)


async def tags_of(connector: GitLabConnector, repository: str) -> set[str]:
    return set((await connector.list_tags(repository)).tags)


def deletes(running: GitLab) -> list[tuple[str, int]]:
    return [(each.part, each.status) for each in running.requests if each.method == "DELETE"]


async def test_a_tag_goes_alone_where_the_registry_can(gitlab: GitLab) -> None:
    push(gitlab, "team/app", "one", "two")
    async with connected(gitlab, "maintainer") as connector:
        if gitlab.mode == "plain":
            assert await connector.probe_untag("team/app") is Ability.UNSUPPORTED
            with pytest.raises(RegistryError) as refused:
                await connector.delete_tag("team/app", "one")
            assert refused.value.code == "untag-unsupported"
            assert {"one", "two"} <= await tags_of(connector, "team/app")
            return
        assert await connector.probe_untag("team/app") is Ability.SUPPORTED
        assert await connector.probe_delete("team/app") is Ability.SUPPORTED
        assert {"one", "two"} <= await tags_of(connector, "team/app")
        assert await connector.delete_tag("team/app", "one") is Removal.REMOVED
        assert await connector.delete_tag("team/app", "one") is Removal.ALREADY_GONE
        left = await tags_of(connector, "team/app")
        assert ("one" in left, "two" in left) == (False, True)
    assert not [each for each in gitlab.requests if any("push" in scope for scope in each.scopes)]


async def test_a_developer_removes_tags_by_the_api(gitlab: GitLab) -> None:
    push(gitlab, "team/app/work", "mine", "yours")
    async with connected(gitlab, "developer") as connector:
        if gitlab.mode == "plain":
            with pytest.raises(RegistryDenied) as refused:
                await connector.delete_tag("team/app/work", "mine")
            assert refused.value.code == "not-granted"
            return
        assert await connector.probe_untag("team/app/work") is Ability.SUPPORTED
        assert deletes(gitlab) == []
        assert await connector.delete_tag("team/app/work", "mine") is Removal.REMOVED
        gone = await connector.delete_tag("team/app/work", "mine")
        assert gone is (Removal.ALREADY_GONE if gitlab.mode == "database" else Removal.REMOVED)
        assert "yours" in await tags_of(connector, "team/app/work")
    assert {part for part, _ in deletes(gitlab)} == {"rails"}


async def test_who_may_only_read_is_told_so_and_nothing_is_asked_to_go(gitlab: GitLab) -> None:
    push(gitlab, "team/app", "kept")
    for token in ("reporter", "reporter-api", "maintainer-read"):
        async with connected(gitlab, token) as connector:
            with pytest.raises(RegistryDenied) as refused:
                await connector.delete_tag("team/app", "kept")
            with pytest.raises(RegistryDenied):
                await connector.probe_untag("team/app")
        assert refused.value.code == "not-granted"
        assert deletes(gitlab) == []


async def test_protected_tags_are_said_to_be_protected(database: GitLab) -> None:
    for repository, tag in (("team/web-ui", "v1"), ("team/sub/tool/cli", "1-final")):
        push(database, repository, tag)
    async with connected(database, "maintainer") as connector:
        for repository, tag, code in (
            ("team/web-ui", "v1", "tag-protected"),
            ("team/sub/tool/cli", "1-final", "tag-immutable"),
        ):
            with pytest.raises(RegistryDenied) as refused:
                await connector.delete_tag(repository, tag)
            assert refused.value.code == code
            assert tag in await tags_of(connector, repository)
            assert await connector.probe_delete(repository) is Ability.SUPPORTED
    asked = [each for each in database.requests if each.part == "issuer"]
    assert len(asked) <= 6
    async with connected(database, "developer") as connector:
        with pytest.raises(RegistryDenied) as refused:
            await connector.delete_tag("team/web-ui", "v1")
    assert refused.value.code == "tag-protected"


async def test_a_repository_is_deleted_and_followed_until_it_is_gone(database: GitLab) -> None:
    push(database, "team/app/worker", "1.0")
    async with connected(database, "maintainer") as connector:
        assert await connector.find_repository_status("team/app/worker") is RepositoryStatus.PRESENT
        assert await connector.delete_repository("team/app/worker") is RepositoryStatus.DELETING
        assert await connector.find_repository_status("team/app/worker") is RepositoryStatus.DELETING
        assert await connector.delete_repository("team/app/worker") is RepositoryStatus.DELETING
        database.background.run_out()
        assert await connector.find_repository_status("team/app/worker") is RepositoryStatus.GONE
        with pytest.raises(RegistryError) as unknown:
            await connector.delete_repository("team/app/worker")
    assert unknown.value.code == "repository-unknown"
    assert deletes(database) == [("rails", 202)]


async def test_a_deletion_that_fails_is_seen(database: GitLab) -> None:
    push(database, "team/container_registry", "1.0")
    database.faults.add(Fault(FaultKind.DELETE_FAILED, method="TICK", path="team/container_registry", count=99))
    async with connected(database, "maintainer") as connector:
        database.faults.add(Fault(FaultKind.DELETE_FAILED, method="TICK", path="team/container_registry", count=99))
        await connector.delete_repository("team/container_registry")
        database.background.run_out()
        assert await connector.find_repository_status("team/container_registry") is RepositoryStatus.FAILED


async def test_only_who_may_deletes_a_repository(database: GitLab) -> None:
    push(database, "open/pub", "1.0")
    async with connected(database, "developer") as connector:
        with pytest.raises(RegistryDenied):
            await connector.delete_repository("team/app")
    async with connected(database, "maintainer") as connector:
        with pytest.raises(RegistryDenied) as refused:
            await connector.delete_repository("open/pub")
    assert refused.value.code == "repository-protected"
    assert {status for _, status in deletes(database)} == {403}


async def test_a_manifest_goes_by_its_digest_and_a_push_is_asked_for_where_one_is_made(gitlab: GitLab) -> None:
    digest = push(gitlab, "ann/thing", "1.0")
    async with connected(gitlab, "ann") as connector:
        listed = await connector.fetch_manifest("ann/thing", "1.0")
        assert str(listed.digest) == digest
        assert await connector.delete_manifest("ann/thing", listed.digest) is Removal.REMOVED
        assert not [each for each in gitlab.requests if any("push" in scope for scope in each.scopes)]
        await connector.put_manifest("ann/thing", "1.0", listed.media_type, listed.payload)  # type: ignore[union-attr]  # fetched without a known digest
        assert await tags_of(connector, "ann/thing") == {"1.0"}


async def test_a_repository_that_a_shifted_page_left_out_is_not_gone(
    database: GitLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(database, "team/app/shifted", "1.0")

    async def left_out(*_: object) -> None:
        return None

    async with connected(database, "maintainer") as connector:
        assert await connector.find_repository_status("team/app/shifted") is RepositoryStatus.PRESENT
        monkeypatch.setattr(Finder, "look_up", left_out)
        assert await connector.find_repository_status("team/app/shifted") is RepositoryStatus.PRESENT


async def test_a_number_that_went_to_another_name_is_not_deleted(database: GitLab) -> None:
    push(database, "team/app/first", "1.0")
    async with connected(database, "maintainer") as connector:
        await connector.find_repository_status("team/app/first")
        database.rename("team/app/first", "team/app/moved")
        push(database, "team/app/first", "2.0")
        await connector.delete_repository("team/app/first")
        database.background.run_out()
        assert await tags_of(connector, "team/app/moved") == {"1.0"}
        assert await connector.find_repository_status("team/app/first") is RepositoryStatus.GONE
