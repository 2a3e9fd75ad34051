"""What the connector for a GitLab reads, in each mode of the registry, with a token that may only read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from regwarden.core.projects import Discovery, Features, Mode, ProtectionRule, RuleKind
from regwarden.errors import RegistryDenied, RegistryError
from regwarden.registries.api import Ability, FetchedManifest, TagListing
from regwarden.registries.client.credentials import Anonymous, Basic
from regwarden.registries.client.limits import Limits
from regwarden.registries.client.settings import ClientSettings
from regwarden.registries.gitlab import listing as own_listing
from regwarden.registries.gitlab.connector import GitLabConnector, open_gitlab
from regwarden.registries.gitlab.settings import GitLabSettings
from regwarden.testing.content import BuiltManifest
from regwarden.testing.images import artifact, image, layer, real_layer
from tests.gitlab_double.recording import Fault, FaultKind
from tests.gitlab_double.running import MODES, GitLab, running_gitlab

REPOSITORIES = [
    "ann/thing",
    "open/pub",
    "team/app",
    "team/app/work",
    "team/app/worker",
    "team/container_registry",
    "team/sub/tool/cli",
    "team/web-ui",
]
OF_TEAM = [name for name in REPOSITORIES if name.startswith("team/")]
SUBJECT = image([layer("subject", 5000)])


def _content() -> dict[str, BuiltManifest]:
    return {name: image([layer(name, 1000)]) for name in REPOSITORIES}


@pytest.fixture(scope="module", params=MODES)
def gitlab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitLab]:
    folder: Path = tmp_path_factory.mktemp("gitlab")
    with running_gitlab(folder, mode=request.param) as running:
        for name, built in _content().items():
            running.push(name, built, "1.0")
        running.push("team/app", SUBJECT, "subject")
        running.push("team/app", artifact("application/vnd.example", [real_layer(b"x")], subject=SUBJECT))
        yield running


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitLab]:
    """One with the metadata database, for what is the same in all modes."""
    with running_gitlab(tmp_path_factory.mktemp("database"), mode="database") as running:
        for name, built in _content().items():
            running.push(name, built, "1.0")
        yield running


@pytest.fixture(autouse=True)
def _nothing_is_written(request: pytest.FixtureRequest) -> Iterator[None]:
    """An inventory changes nothing and asks for no right to: looked at after every test of this file."""
    running = [request.getfixturevalue(name) for name in ("gitlab", "database") if name in request.fixturenames]
    for one in running:
        one.forget_requests()
        one.faults.clear()
    yield
    for one in running:
        written = [f"{each.method} {each.path}" for each in one.requests if each.method not in {"GET", "HEAD"}]
        assert [each for each in written if each != "POST /api/graphql"] == []
        scopes = [scope for each in one.requests for scope in each.scopes]
        assert not [scope for scope in scopes if "push" in scope or "delete" in scope]


@asynccontextmanager
async def connected(running: GitLab, token: str = "admin-read", **settings: Any):
    credentials = Basic("regwarden", running.tokens[token]) if token else Anonymous()
    client = ClientSettings(running.registry_url, credentials=credentials)
    limits = Limits(page_size=settings.pop("page_size", 1000), retry_wait_seconds=0.05)
    connector = open_gitlab(GitLabSettings(client, running.url, **settings), limits)
    try:
        yield connector
    finally:
        await connector.close()


async def names_of(connector: GitLabConnector) -> list[str]:
    return [name async for page in connector.list_repositories() for name in page.names]


def token_requests(running: GitLab) -> int:
    return sum(each.part == "issuer" for each in running.requests)


def by_name(found: Discovery) -> dict[str, str]:
    paths = {project.id: project.path for project in found.projects}
    return {one.name: paths[one.project_id] for one in found.repositories}


async def test_an_administrators_catalog_is_listed_and_read_with_few_tokens(gitlab: GitLab) -> None:
    expected = _content()
    async with connected(gitlab) as connector:
        ping = await connector.ping()
        assert ping.is_authenticated
        assert sorted(await names_of(connector)) == REPOSITORIES
        listings = {name: await connector.list_tags(name) for name in REPOSITORIES}
        manifest = await connector.fetch_manifest("team/web-ui", "1.0")
    assert {name: "1.0" in listing.tags for name, listing in listings.items()} == dict.fromkeys(REPOSITORIES, True)
    assert manifest == FetchedManifest(
        expected["team/web-ui"].digest, expected["team/web-ui"].media_type, expected["team/web-ui"].payload
    )
    # For nothing, for the catalog, and for all repositories at once.
    assert token_requests(gitlab) <= 3


async def test_the_listing_of_the_metadata_database_says_what_tags_point_to(gitlab: GitLab) -> None:
    async with connected(gitlab) as connector:
        listing = await connector.list_tags("team/app")
        nowhere = await connector.list_tags("team/app/nothing")
    assert sorted(listing.tags) == ["1.0", "subject"]
    assert listing.is_complete
    assert not listing.doubt
    assert nowhere.exists is False
    if gitlab.mode != "database":
        assert listing.listed is None
        return
    assert listing.listed is not None
    subject = listing.listed["subject"]
    assert (subject.digest, subject.media_type) == (SUBJECT.digest, SUBJECT.media_type)
    assert subject.published_at is not None
    assert subject.referrers is not None
    assert len(subject.referrers) == 1
    assert listing.listed["1.0"].referrers == ()


async def test_what_the_registry_can_do_is_known_by_its_mode(gitlab: GitLab) -> None:
    async with connected(gitlab) as connector:
        capabilities = await connector.probe_capabilities()
        removes_by_tag = connector.removes_by_tag
        size = await connector.measure_repository("team/web-ui")
        referrers = await connector.list_referrers("team/app", SUBJECT.digest)
    words = {
        "database": "GitLab's registry 4.32.0-gitlab, metadata database on",
        "files": "GitLab's registry 4.32.0-gitlab, metadata database off",
        "plain": "a registry that takes GitLab's tokens",
    }
    assert capabilities.server == words[gitlab.mode]
    assert capabilities.catalog is Ability.SUPPORTED
    assert removes_by_tag is (gitlab.mode == "database")
    assert (size.size_bytes if size else None) == (1000 if gitlab.mode == "database" else None)
    assert referrers is None


async def test_an_instance_is_joined_to_its_projects_with_owners_and_rules(gitlab: GitLab) -> None:
    async with connected(gitlab) as connector:
        await names_of(connector)
        found = await connector.discover()
    assert (found.mode, found.is_complete, found.doubts) == (Mode.INSTANCE, True, ())
    assert by_name(found) == {
        "ann/thing": "ann/thing",
        "open/pub": "open/pub",
        "team/app": "team/app",
        "team/app/work": "team/app",
        "team/app/worker": "team/app",
        "team/container_registry": "team/container_registry",
        "team/sub/tool/cli": "team/sub/tool",
        "team/web-ui": "team/Web-UI",
    }
    assert {one.name: one.id for one in found.repositories}["team/web-ui"] == 4
    projects = {one.path: one for one in found.projects}
    assert (projects["ann/thing"].owner, projects["ann/thing"].group) == ("ann", "ann")
    assert (projects["open/pub"].owner, projects["open/pub"].visibility) == ("mia", "public")
    assert (projects["team/sub/tool"].group, projects["team/sub/tool"].owner) == ("team/sub", None)
    assert projects["team/app"].size_bytes == 100_000_000
    assert projects["team/app"].access_level == 60
    policy = projects["team/app"].cleanup_policy
    assert policy is not None
    assert (policy["enabled"], policy["keep_n"]) == (True, 5)
    assert projects["team/Web-UI"].rules == (ProtectionRule(RuleKind.TAG, r"^v\d+", "owner", "maintainer"),)
    assert projects["open/pub"].rules == (ProtectionRule(RuleKind.REPOSITORY, "open/pub*", "admin", "maintainer"),)
    assert projects["team/sub/tool"].rules == (ProtectionRule(RuleKind.IMMUTABLE, "-final$"),)
    assert projects["team/app"].rules == ()
    namespaces = {one.path: (one.size_bytes, one.is_estimated) for one in found.namespaces}
    assert namespaces == {"team": (123_456_789, False), "open": (2_000_000, True)}


async def test_without_the_catalog_groups_and_projects_are_walked(database: GitLab) -> None:
    async with connected(database, "maintainer-read") as connector:
        pages = [page async for page in connector.list_repositories()]
        found = await connector.discover()
    names = sorted(name for page in pages for name in page.names)
    assert names == [*(name for name in REPOSITORIES if name != "ann/thing")]
    assert all(page.is_trustworthy for page in pages)
    assert (found.is_complete, found.namespaces) == (True, ())
    assert {one.path: one.access_level for one in found.projects}["team/app"] == 40
    assert set(by_name(found)) == set(names)


@pytest.mark.parametrize(
    ("scope", "mode", "expected"),
    [
        ({"groups": ("team",)}, Mode.GROUP, OF_TEAM),
        ({"groups": ("team/sub",), "projects": ("open/pub",)}, Mode.GROUP, ["open/pub", "team/sub/tool/cli"]),
        ({"projects": ("team/Web-UI", "old/app")}, Mode.PROJECT, ["team/web-ui", *OF_TEAM[:3]]),
    ],
    ids=["group", "group-and-project", "projects-one-moved"],
)
async def test_groups_and_projects_are_read_as_they_are_named(
    database: GitLab, scope: dict[str, Any], mode: Mode, expected: list[str]
) -> None:
    async with connected(database, "reporter", **scope) as connector:
        names = await names_of(connector)
        found = await connector.discover()
    assert sorted(names) == sorted(expected)
    assert (found.mode, found.is_complete) == (mode, True)
    assert set(by_name(found)) == set(names)
    # A reporter may not read rules, but the tokens say what bars everybody.
    rules = {one.path: one.rules for one in found.projects}
    assert rules.get("team/sub/tool", ()) in ((), (ProtectionRule(RuleKind.IMMUTABLE, "-final$"),))
    assert not [each for each in database.requests if "catalog" in "".join(each.scopes)]


async def test_public_projects_can_be_read_without_a_token(gitlab: GitLab) -> None:
    async with connected(gitlab, "", projects=("open/pub",)) as connector:
        ping = await connector.ping()
        access = await connector.describe_access()
        names = await names_of(connector)
        listing = await connector.list_tags("open/pub")
        found = await connector.discover()
    assert not ping.is_authenticated
    assert (names, listing.tags) == (["open/pub"], ("1.0",))
    assert by_name(found) == {"open/pub": "open/pub"}
    assert "There is no token: only public projects are read, and nothing can be deleted." in access.lacks
    assert (listing.listed is not None) is (gitlab.mode == "database")
    assert (
        access.features
        is {"database": Features.DATABASE, "files": Features.FILES, "plain": Features.PLAIN}[gitlab.mode]
    )


async def test_a_walk_that_breaks_off_is_no_shorter_truth(database: GitLab) -> None:
    database.faults.add(Fault(FaultKind.BAD_GATEWAY, path="groups/team/registry", count=20))
    async with connected(database, "maintainer-read", groups=("team", "open")) as connector:
        pages = [page async for page in connector.list_repositories()]
        found = await connector.discover()
    assert [name for page in pages for name in page.names] == ["open/pub"]
    broken = [page for page in pages if not page.is_trustworthy]
    assert "the repositories of the group team could not be read to the end" in broken[0].doubt
    assert not found.is_complete
    assert found.doubts


async def test_a_group_that_is_not_there_is_an_error_when_nothing_else_is_listed(database: GitLab) -> None:
    async with connected(database, "reporter", groups=("no-such-group",)) as connector:
        with pytest.raises(RegistryError, match="no-such-group"):
            await names_of(connector)


async def test_pages_are_followed_by_their_marker_with_the_referrers(database: GitLab) -> None:
    digest = _content()["team/app/work"].digest
    tags = [f"b{number:03}" for number in range(25)]
    database.fill_tags("team/app/work", str(digest), tags)
    async with connected(database, page_size=10) as connector:
        listing = await connector.list_tags("team/app/work")
    assert listing.tags == ("1.0", *tags)
    assert (listing.page_count, listing.is_complete) == (3, True)
    assert listing.listed is not None
    assert {one.digest for one in listing.listed.values()} == {digest}
    asked = [each for each in database.requests if each.path.startswith("/gitlab/v1/repositories/")]
    assert all(each.query["referrers"] == ["true"] for each in asked)


async def test_a_listing_that_cannot_be_read_falls_back_and_says_so(
    database: GitLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(*_: object) -> TagListing:
        raise own_listing.UnreadableListing("the registry's own listing is not a list in JSON")

    monkeypatch.setattr(own_listing._Collected, "_take", unreadable)
    async with connected(database) as connector:
        listing = await connector.list_tags("team/web-ui")
        removes_by_tag = connector.removes_by_tag
        access = await connector.describe_access()
    assert (listing.tags, listing.is_complete, listing.listed) == (("1.0",), True, None)
    assert "the common listing was read instead" in listing.doubt
    assert removes_by_tag  # it still has its database
    assert access.features is Features.UNKNOWN
    assert "not a list in JSON" in access.doubts[0]


async def test_a_wrong_token_is_shown_once_only(database: GitLab) -> None:
    async with connected(database, "revoked", groups=("team",)) as connector:
        for _ in range(3):
            with pytest.raises(RegistryDenied) as denied:
                await names_of(connector)
            with pytest.raises(RegistryDenied):
                await connector.list_tags("team/app")
    assert denied.value.code == "login-failed"
    failures = [each for each in database.requests if each.part != "registry" and each.status in {401, 403}]
    assert len(failures) == 1


async def test_a_repository_that_no_project_has_stays_with_a_doubt(database: GitLab) -> None:
    stray = image([layer("stray", 10)])
    database.push("team/web-ui", stray, "stray")
    database.storage.rename("team/web-ui", "gone/elsewhere")
    try:
        async with connected(database) as connector:
            names = await names_of(connector)
            found = await connector.discover()
    finally:
        database.storage.rename("gone/elsewhere", "team/web-ui")
    assert "gone/elsewhere" in names
    assert "no project that we see has the repositories gone/elsewhere" in found.doubts
    assert not found.is_complete
