"""What is said of each kind of token, of registries nobody knows, and of rules in older releases of GitLab."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from regwarden.core.projects import Access, AccessLevel, Features, Project, ProtectionRule, RuleKind
from regwarden.registries.client.credentials import Basic
from regwarden.registries.client.limits import Limits
from regwarden.registries.client.settings import ClientSettings
from regwarden.registries.gitlab.connector import GitLabConnector, open_gitlab
from regwarden.registries.gitlab.features import Found, judge
from regwarden.registries.gitlab.grants import TokenMeta
from regwarden.registries.gitlab.project_rules import RuleReader
from regwarden.registries.gitlab.records import find_owners, moment_of, number_of, parse_project, parse_repository
from regwarden.registries.gitlab.settings import GitLabSettings
from regwarden.testing.images import image, layer
from tests.gitlab_double.recording import Fault, FaultKind
from tests.gitlab_double.running import GitLab, running_gitlab

CATALOG_REFUSED = "Without administrator rights the catalog is refused: groups and projects are walked instead."
NO_API = "The token lacks the scope read_api (or api): groups, projects, rules and figures cannot be read."
NO_PULL = "The token lacks the scope read_registry (read_api or api serve, too): manifests cannot be read."


@pytest.fixture(scope="module")
def gitlab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitLab]:
    with running_gitlab(tmp_path_factory.mktemp("gitlab"), mode="database") as running:
        for name in ("team/app", "team/sub/tool/cli", "team/web-ui"):
            running.push(name, image([layer(name, 1000)]), "1.0")
        yield running


@asynccontextmanager
async def connected(running: GitLab, token: str, **settings: Any) -> AsyncIterator[GitLabConnector]:
    running.forget_requests()
    user = {"job": "gitlab-ci-token", "deploy": "deploy"}.get(token, "regwarden")
    client = ClientSettings(running.registry_url, credentials=Basic(user, running.tokens[token]))
    connector = open_gitlab(GitLabSettings(client, running.url, **settings), Limits(retry_wait_seconds=0.05))
    try:
        yield connector
    finally:
        await connector.close()


async def access_of(running: GitLab, token: str, **settings: Any) -> Access:
    async with connected(running, token, **settings) as connector:
        return await connector.describe_access()


@pytest.mark.parametrize(
    ("token", "user", "catalog", "deletes", "lacks"),
    [
        ("admin", "root", True, True, ()),
        ("admin-read", "root", True, False, ("Deleting needs the scope api; this token has read_api, read_registry.",)),
        ("maintainer", "mia", False, True, (CATALOG_REFUSED,)),
        ("read_api", "mia", False, False, ("Deleting needs the scope api; this token has read_api.", CATALOG_REFUSED)),
        ("read_registry", "", False, False, (NO_API, "Deleting needs the scope api; this token has read_registry.")),
        (
            "write_registry",
            "",
            False,
            False,
            (NO_PULL, NO_API, "Deleting needs the scope api; this token has write_registry."),
        ),
    ],
)
async def test_what_a_token_may_do_and_lacks(
    gitlab: GitLab, token: str, user: str, catalog: bool, deletes: bool, lacks: tuple[str, ...]
) -> None:
    access = await access_of(gitlab, token)
    assert (access.user, access.can_list_catalog, access.can_delete) == (user, catalog, deletes)
    assert access.lacks == lacks
    assert (access.features, access.registry_version) == (Features.DATABASE, "4.32.0-gitlab")
    assert access.is_admin is ({"root": True, "mia": False, "": None}[user])
    assert {each.method for each in gitlab.requests} == {"GET"}


async def test_a_deploy_token_reads_and_has_no_api(gitlab: GitLab) -> None:
    async with connected(gitlab, "deploy") as connector:
        access = await connector.describe_access()
        listing = await connector.list_tags("team/app")
    assert listing.tags == ("1.0",)
    assert access.scopes is None
    assert access.lacks[0].startswith("GitLab's API cannot be used with this token. ")
    assert access.can_read_projects is False


async def test_another_token_for_the_api_makes_a_deploy_token_whole(gitlab: GitLab) -> None:
    token = gitlab.tokens["reporter"]
    async with connected(gitlab, "deploy", api_token=token, groups=("team",)) as connector:
        names = [name async for page in connector.list_repositories() for name in page.names]
        found = await connector.discover()
        access = await connector.describe_access()
    assert "team/web-ui" in names
    assert found.is_complete
    assert (access.user, access.can_read_projects) == ("rita", True)


async def test_a_failed_login_is_said_once_and_nothing_more_is_asked(gitlab: GitLab) -> None:
    access = await access_of(gitlab, "expired")
    assert len(access.lacks) == 1
    assert "does not accept the user and the token" in access.lacks[0]
    assert len([each for each in gitlab.requests if each.status in {401, 403} and each.part != "registry"]) == 1


async def test_a_group_that_cannot_be_read_is_named(gitlab: GitLab) -> None:
    access = await access_of(gitlab, "reporter", groups=("team", "nobody/knows"))
    assert access.can_read_projects is False
    assert [line for line in access.lacks if "nobody/knows" in line]


async def test_a_gitlab_that_fails_now_says_nothing_of_rights(gitlab: GitLab) -> None:
    gitlab.faults.add(Fault(FaultKind.BAD_GATEWAY, path="groups/team", count=20))
    access = await access_of(gitlab, "reporter", groups=("team",))
    gitlab.faults.clear()
    assert access.can_read_projects is None
    assert "GitLab failed at the group team (502)." in access.doubts


async def test_tokens_tell_the_project_where_the_api_is_refused(gitlab: GitLab) -> None:
    async with connected(gitlab, "admin-read_registry") as connector:
        names = [name async for page in connector.list_repositories() for name in page.names]
        for name in names:
            await connector.list_tags(name)
        found = await connector.discover()
    assert {one.path.lower() for one in found.projects} == {"team/app", "team/sub/tool", "team/web-ui"}
    assert len(found.repositories) == len(names)
    assert found.doubts


@pytest.mark.parametrize("version", ["18.6.0", "18.1.0", "17.8.0"])
async def test_older_releases_tell_rules_by_graphql(gitlab: GitLab, version: str) -> None:
    before, gitlab.scenario.settings.version = gitlab.scenario.settings.version, version
    try:
        async with connected(gitlab, "maintainer-read", groups=("team",)) as connector:
            found = await connector.discover()
    finally:
        gitlab.scenario.settings.version = before
    rules = {one.path: one.rules for one in found.projects}
    tag_rule = ProtectionRule(RuleKind.TAG, r"^v\d+", "owner", "maintainer")
    assert rules["team/sub/tool"] == (ProtectionRule(RuleKind.IMMUTABLE, "-final$"),)
    if version == "17.8.0":  # nothing lists them: what bars this user is what its tokens say
        assert [one.pattern for one in rules["team/Web-UI"] or ()] == [r"^v\d+"]
    else:
        assert rules["team/Web-UI"] == (tag_rule,)


async def test_no_rules_are_concluded_where_nobody_could_say() -> None:
    reader = RuleReader(None)  # type: ignore[arg-type]  # nothing may be asked
    developer, unknown = AccessLevel.DEVELOPER, None
    denied = TokenMeta(delete_deny_patterns=("^v",), immutable_patterns=("-final$",))

    async def read(level: int | None, meta: TokenMeta | None) -> tuple[ProtectionRule, ...] | None:
        rules, are_all = await reader.read(Project(id=1, path="a/b", access_level=level), meta)
        assert are_all is (rules is None or level is not None)
        return rules

    assert await read(developer, None) is None
    assert await read(developer, TokenMeta()) == ()
    assert await read(unknown, TokenMeta()) is None
    assert [one.kind for one in await read(unknown, denied) or ()] == [RuleKind.IMMUTABLE, RuleKind.TAG]
    assert [one.delete_role for one in await read(developer, denied) or ()] == ["", "maintainer"]


@pytest.mark.parametrize(
    ("version", "database", "has_own_api", "expected"),
    [
        ("4.32.0-gitlab", "true", True, Features.DATABASE),
        ("4.32.0-gitlab", "false", False, Features.FILES),
        ("v3.70.0-gitlab", "", True, Features.DATABASE),
        ("", "", False, Features.PLAIN),
        ("4.32.0-gitlab", "true", False, Features.UNKNOWN),
        ("4.32.0-gitlab", "maybe", True, Features.UNKNOWN),
        ("5.0.0-gitlab", "true", True, Features.UNKNOWN),
        ("eleven", "true", True, Features.UNKNOWN),
        ("", "", True, Features.UNKNOWN),
    ],
)
def test_the_registry_is_known_by_its_headers(
    version: str, database: str, has_own_api: bool, expected: Features
) -> None:
    headers = {
        "Gitlab-Container-Registry-Version": version,
        "GitLab-Container-Registry-Database-Enabled": database,
    }
    found = judge({name: value for name, value in headers.items() if value}, has_own_api=has_own_api)
    assert found.features is expected
    assert bool(found.doubt) is (expected is Features.UNKNOWN)
    assert isinstance(found, Found)


def test_hostile_rows_are_none_or_emptied() -> None:
    no_projects: tuple[object, ...] = (
        None,
        [],
        "x",
        {},
        {"id": True, "path_with_namespace": "a/b"},
        {"id": 1, "path_with_namespace": "a\n"},
    )
    for row in no_projects:
        assert parse_project(row, is_admin=False) is None
    for row in (None, {"path": "A B", "project_id": 1}, {"path": "a/b", "project_id": 0}, {"path": "a/../b", "id": 1}):
        assert parse_repository(row) is None
    odd = {"id": 7, "path_with_namespace": "a/b", "namespace": 5, "permissions": [], "statistics": "large"}
    project = parse_project(
        {**odd, "container_expiration_policy": {"enabled": {"deep": 1}, "keep_n": 5}}, is_admin=False
    )
    assert project is not None
    assert (project.group, project.access_level, project.size_bytes) == ("a", None, None)
    assert project.cleanup_policy == {"keep_n": 5}
    assert moment_of("9999-12-31T23:59:59-23:59") is None
    assert moment_of("2025-01-01T00:00:00") is None
    assert (number_of(-1), number_of(2**70), number_of(1.0)) == (None, None, None)
    assert find_owners([{"username": "b", "access_level": 50}, {"username": "a", "access_level": 50}, 3]) == "a, b"
