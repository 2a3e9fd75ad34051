"""A crawl of a registry whose listing tells digests: what it spares, and that the inventory is the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Generic, TypeVar

import pytest
from sqlalchemy import select

from regwarden.core.oci.digests import Digest
from regwarden.core.projects import (
    Access,
    AccessLevel,
    Discovery,
    Mode,
    Project,
    ProjectRepository,
    ProtectionRule,
    RepositorySize,
    RuleKind,
)
from regwarden.errors import RegistryError, RegistryMissing, RegistryUnreachable
from regwarden.flows.crawl import CrawlOptions, CrawlReport, RegistryTarget, crawl
from regwarden.flows.services import Services
from regwarden.registries.api import FetchedManifest, Unchanged
from regwarden.store.database import Access as DatabaseAccess
from regwarden.store.database import Database, open_database
from regwarden.store.projects import load_access
from regwarden.store.schema import crawl_problems, manifests, repositories, repository_manifests, tag_history, tags
from regwarden.store.tag_state import resolve_tags
from regwarden.store.times import from_micros
from regwarden.testing.content import BuiltManifest, Content
from regwarden.testing.images import artifact, image, image_config, index, layer
from tests.random_registries import random_registry
from tests.simulated_registry import Died, SimulatedClock, SimulatedConnector, SimulatedRegistry

NAME = "simulated"
_MINUTE = timedelta(minutes=1)


ConnectorT = TypeVar("ConnectorT", bound=SimulatedConnector)


class Inventory(Generic[ConnectorT]):
    """A simulated registry and what was crawled of it."""

    def __init__(self, database: Database, registry: SimulatedRegistry, connector: ConnectorT) -> None:
        self.database = database
        self.registry = registry
        self.connector = connector

    async def crawl(self, **options: Any) -> CrawlReport:
        self.registry.clock.present += _MINUTE
        self.connector.asked.clear()
        services = Services(self.database, self.registry.clock.now, {NAME: self.connector})
        return await crawl(services, RegistryTarget(NAME, "http://registry.test"), CrawlOptions(**options))

    def rows(self, statement: Any) -> list[tuple[Any, ...]]:
        return self.database.read_now(lambda connection: [tuple(row) for row in connection.execute(statement)])

    def asked(self, what: str = "manifest") -> list[tuple[str, str, str]]:
        """Requests about manifests, or (``list``) about lists."""
        named = [one for one in self.connector.asked if one[1]]
        return [one for one in named if bool(one[2]) == (what == "manifest")]

    def everything(self) -> dict[str, list[tuple[Any, ...]]]:
        """All that a crawl finds out, without ids and without the moments at which it did."""
        here = repository_manifests.join(repositories).join(
            manifests, manifests.c.id == repository_manifests.c.manifest_id
        )
        pointing = tags.join(repositories).outerjoin(manifests, manifests.c.id == tags.c.manifest_id)
        problems = crawl_problems.join(repositories, repositories.c.id == crawl_problems.c.repository_id)
        name = repositories.c.name
        tag = (tags.c.name, tags.c.state, tags.c.created_at, tags.c.logical_bytes, tags.c.exclusive_bytes)
        untagged = repository_manifests.c.untagged_since.is_not(None)
        content = ("digest", "state", "media_type", "config_state", "platform", "created_at", "logical_bytes", "labels")
        statements = {
            "tags": select(name, *tag, manifests.c.digest).select_from(pointing),
            "manifests": select(name, manifests.c.digest, repository_manifests.c.deleted_at, untagged).select_from(
                here
            ),
            "content": select(*(manifests.c[one] for one in content)),
            "repositories": select(name, repositories.c.state, repositories.c.tag_count, repositories.c.logical_bytes),
            "problems": select(name, *(crawl_problems.c[one] for one in ("tag", "digest", "code"))).select_from(
                problems
            ),
            "history": select(name, tag_history.c.tag, tag_history.c.digest).select_from(
                tag_history.join(repositories)
            ),
        }
        return {one: sorted(self.rows(statement), key=repr) for one, statement in statements.items()}


@contextmanager
def opened(
    kind: Callable[[SimulatedRegistry], ConnectorT], *, tells_digests: bool = True, content: Content | None = None
) -> Iterator[Inventory[ConnectorT]]:
    registry = SimulatedRegistry(SimulatedClock(), lists_referrers=not tells_digests, tells_digests=tells_digests)
    if content is not None:
        registry.content = content
    database = open_database(":memory:", access=DatabaseAccess.WRITE, create=True)
    try:
        yield Inventory(database, registry, kind(registry))
    finally:
        database.close()


def an_image(seed: str) -> BuiltManifest:
    return image([layer("base", 1000), layer(seed, 10)], image_config("linux/arm64", labels={"seed": seed}))


@pytest.fixture
def inventory() -> Iterator[Inventory[SimulatedConnector]]:
    with opened(SimulatedConnector) as inventory:
        yield inventory


async def test_an_unchanged_repository_with_3000_tags_costs_one_listing_and_no_manifest(
    inventory: Inventory[SimulatedConnector],
) -> None:
    images = [an_image(str(number)) for number in range(3)]
    for number in range(3000):
        inventory.registry.push("team/app", images[number % 3], f"1.{number}")
    report = await inventory.crawl()
    assert (report.state, report.certificate.tag_count) == ("complete", 3000)
    digests = {str(one.digest) for one in images}
    assert sorted(one[2] for one in inventory.asked() if one[2] in digests) == sorted(digests)
    assert len(inventory.asked()) == 6  # and their configs
    before = inventory.everything()
    report = await inventory.crawl()
    assert (report.state, report.certificate.moved_tag_count, report.certificate.tag_count) == ("complete", 0, 3000)
    assert inventory.asked() == []
    assert inventory.asked("list") == [("GET", "team/app", "")]
    assert inventory.everything() == before


@pytest.mark.parametrize("seed", range(4))
async def test_the_inventory_is_that_of_a_crawl_without_it(seed: int) -> None:
    found = []
    for tells_digests in (False, True):
        content = random_registry(seed).content
        with opened(SimulatedConnector, tells_digests=tells_digests, content=content) as inventory:
            await inventory.crawl()
            first = inventory.everything()
            # Something moves, something goes, something is new; the rest stays.
            for name in sorted(content.repositories):
                here = content.repositories[name]
                if len(here.tags) > 1:
                    one, other = sorted(here.tags)[:2]
                    here.tags[one] = here.tags[other]
                    del here.tags[other]
                inventory.registry.push(name, an_image(f"new in {name}"), "new")
            await inventory.crawl(accept_disappearance=True)
            second = inventory.everything()
            await inventory.crawl()
            found.append((first, second, inventory.everything()))
    assert found[0] == found[1]


async def test_a_tag_that_is_new_is_as_old_as_the_listing_says_and_history_is_when_it_was_seen(
    inventory: Inventory[SimulatedConnector],
) -> None:
    inventory.registry.push("team/app", an_image("one"), "1.0")
    published = inventory.registry.published["team/app", "1.0"]
    await inventory.crawl()
    crawled = inventory.registry.clock.now()
    assert inventory.rows(select(tags.c.tagged_at, tags.c.published_at, tags.c.first_seen_at)) == [
        tuple(int(one.timestamp() * 1_000_000) for one in (published, published, crawled))
    ]
    assert [from_micros(row[0]) for row in inventory.rows(select(tag_history.c.at))] == [crawled]


async def test_what_the_listing_says_of_a_time_is_believed_as_far_as_it_can_be_true(
    inventory: Inventory[SimulatedConnector],
) -> None:
    registry = inventory.registry
    registry.push("team/app", an_image("one"), "1.0")
    registry.push("team/app", an_image("two"), "2.0")
    registry.published["team/app", "2.0"] = registry.clock.now() + timedelta(days=1)
    await inventory.crawl()
    first_crawl = registry.clock.now()
    rows = dict(inventory.rows(select(tags.c.name, tags.c.tagged_at)))
    assert from_micros(rows["2.0"]) == first_crawl  # not in the future
    registry.push("team/app", an_image("three"), "1.0")
    registry.published["team/app", "1.0"] -= timedelta(days=9)  # when it still pointed elsewhere
    await inventory.crawl()
    rows = dict(inventory.rows(select(tags.c.name, tags.c.tagged_at)))
    assert from_micros(rows["1.0"]) == registry.clock.now()


async def test_a_time_goes_when_a_reading_without_it_finds_the_tag_moved(
    inventory: Inventory[SimulatedConnector],
) -> None:
    registry = inventory.registry
    registry.push("team/app", an_image("one"), "1.0")
    registry.push("team/app", an_image("one"), "2.0")
    await inventory.crawl()
    registry.tells_digests = False
    registry.push("team/app", an_image("two"), "1.0")
    await inventory.crawl()
    rows = dict(inventory.rows(select(tags.c.name, tags.c.published_at)))
    assert rows["1.0"] is None
    assert rows["2.0"] is not None


async def test_a_time_that_the_listing_told_stays_when_the_row_is_made_anew(
    inventory: Inventory[SimulatedConnector],
) -> None:
    inventory.registry.push("team/app", an_image("one"), "1.0")
    await inventory.crawl()
    statement = select(tags.c.repository_id, tags.c.tagged_at, tags.c.published_at)
    before = inventory.rows(statement)
    inventory.database.write_now(lambda connection: resolve_tags(connection, before[0][0], ["1.0"]))
    assert inventory.rows(statement) == before


async def test_referrers_are_read_as_listed_and_not_asked_for_again(inventory: Inventory[SimulatedConnector]) -> None:
    subject = an_image("one")
    signature = artifact("application/vnd.example.signature", [layer("signed", 5)], subject=subject)
    inventory.registry.push("team/app", subject, "1.0")
    inventory.registry.push("team/app", signature)
    await inventory.crawl()
    assert ("GET", "team/app", str(signature.digest)) in inventory.asked()
    kept = {Digest.from_bytes(row[0]) for row in inventory.rows(select(manifests.c.digest))}
    assert {subject.digest, signature.digest} <= kept
    await inventory.crawl()
    assert inventory.asked() == []
    another = artifact("application/vnd.example.sbom", [layer("listed", 5)], subject=subject)
    inventory.registry.push("team/app", another)
    await inventory.crawl()
    assert [one for one in inventory.asked() if one[2] == str(another.digest)]
    assert not [one for one in inventory.asked() if one[2] in (str(subject.digest), str(signature.digest))]


async def test_content_known_from_another_repository_is_not_asked_for(inventory: Inventory[SimulatedConnector]) -> None:
    inventory.registry.push("team/app", an_image("one"), "1.0")
    await inventory.crawl()
    inventory.registry.push("team/copy", an_image("one"), "1.0")
    await inventory.crawl()
    assert inventory.asked() == []
    rows = inventory.rows(select(tags.c.name, tags.c.state, repositories.c.name).select_from(tags.join(repositories)))
    assert ("1.0", "ok", "team/copy") in rows


async def test_children_of_a_known_index_are_still_looked_for(inventory: Inventory[SimulatedConnector]) -> None:
    built = index([an_image("one"), image([layer("two", 20)])])
    inventory.registry.push("team/app", built, "1.0")
    await inventory.crawl()
    inventory.registry.push("team/copy", built, "1.0")
    await inventory.crawl()
    assert {one[0] for one in inventory.asked()} == {"HEAD"}
    assert {one[2] for one in inventory.asked()} == {str(child.digest) for child in built.children}


async def test_to_verify_is_to_ask_for_each_tag(inventory: Inventory[SimulatedConnector]) -> None:
    inventory.registry.push("team/app", an_image("one"), "1.0")
    inventory.registry.push("team/app", an_image("one"), "2.0")
    await inventory.crawl()
    await inventory.crawl(verify=True)
    assert ("HEAD", "team/app", "1.0") in inventory.asked()
    assert ("HEAD", "team/app", "2.0") in inventory.asked()


class Failing(SimulatedConnector):
    """``errors`` stand for answers about references."""

    def __init__(self, registry: SimulatedRegistry) -> None:
        super().__init__(registry)
        self.errors: dict[str, RegistryError] = {}

    async def fetch_manifest(
        self, repository: str, reference: str, *, known: Digest | None = None
    ) -> FetchedManifest | Unchanged:
        if reference in self.errors:
            self.asked.append(("GET", repository, reference))
            raise self.errors[reference]
        return await super().fetch_manifest(repository, reference, known=known)


async def test_what_is_not_there_by_digest_is_asked_for_by_its_tags() -> None:
    with opened(Failing) as inventory:
        built = an_image("one")
        for tag in ("1.0", "2.0"):
            inventory.registry.push("team/app", built, tag)
        inventory.connector.errors[str(built.digest)] = RegistryMissing("not there", status=404)
        inventory.connector.errors["2.0"] = RegistryMissing("not there", status=404)
        await inventory.crawl()
        asked = [one[2] for one in inventory.asked()][:3]
        assert asked == [str(built.digest), "1.0", "2.0"]
        assert dict(inventory.rows(select(tags.c.name, tags.c.state))) == {"1.0": "ok", "2.0": "dangling"}


async def test_a_manifest_that_is_not_given_leaves_its_tags_as_they_were_and_is_asked_for_once() -> None:
    with opened(Failing) as inventory:
        registry, old, new = inventory.registry, an_image("old"), an_image("new")
        for number in range(600):
            registry.push("team/app", old, f"1.{number}")
        await inventory.crawl()
        for number in range(600):
            registry.push("team/app", new, f"1.{number}")
        inventory.connector.errors[str(new.digest)] = RegistryUnreachable("the connection broke", temporary=True)
        report = await inventory.crawl()
        assert report.state == "partial"
        assert len(inventory.asked()) == 1
        pointed = select(manifests.c.digest).select_from(tags.join(manifests, manifests.c.id == tags.c.manifest_id))
        assert {Digest.from_bytes(row[0]) for row in inventory.rows(pointed)} == {old.digest}


async def test_killed_and_continued_nothing_is_fetched_twice(inventory: Inventory[SimulatedConnector]) -> None:
    for number in range(600):
        inventory.registry.push("team/app", an_image(str(number)), f"1.{number}")
    inventory.connector.lifeline.dies_at = 700
    with pytest.raises(Died):
        await inventory.crawl()
    fetched = {one[2] for one in inventory.asked()}
    inventory.connector.lifeline.dies_at = inventory.connector.lifeline.count = 0
    inventory.connector.lifeline.is_dead = False
    report = await inventory.crawl()
    assert (report.state, report.certificate.tag_count) == ("complete", 600)
    assert len(fetched & {one[2] for one in inventory.asked()}) <= len(fetched) - 500  # the first 250 images


class Owned(SimulatedConnector):
    """A registry with projects."""

    def __init__(self, registry: SimulatedRegistry) -> None:
        super().__init__(registry)
        self.questions: list[str] = []
        self.failures: set[str] = set()
        self.size: RepositorySize | None = RepositorySize(size_bytes=5)

    def _ask(self, question: str) -> None:
        self.registry.clock.tick()
        self.questions.append(question)
        if question in self.failures:
            raise RegistryError("GitLab is away", code="registry-failing", temporary=True)

    async def describe_access(self) -> Access:
        self._ask("access")
        return Access(mode=Mode.INSTANCE, user="ann")

    async def discover(self) -> Discovery:
        self._ask("projects")
        rule = ProtectionRule(kind=RuleKind.TAG, pattern="^v", delete_role="maintainer", push_role="maintainer")
        project = Project(
            id=7, path="team/app", group="team", owner="ann", access_level=AccessLevel.MAINTAINER, rules=(rule,)
        )
        found = ProjectRepository(name="team/app", project_id=7, id=70)
        return Discovery(mode=Mode.INSTANCE, projects=(project,), repositories=(found,), doubts=("a doubt of GitLab",))

    async def measure_repository(self, repository: str) -> RepositorySize | None:
        self._ask(f"size {repository}")
        return self.size


async def test_projects_sizes_and_protections_come_with_a_crawl() -> None:
    with opened(Owned) as inventory:
        for tag in ("v1", "main"):
            inventory.registry.push("team/app", an_image("one"), tag)
        report = await inventory.crawl()
        assert "a doubt of GitLab" in report.certificate.doubts
        columns = [repositories.c[one] for one in ("project", "project_group", "owner", "remote_id", "remote_bytes")]
        assert inventory.rows(select(*columns)) == [("team/app", "team", "ann", 70, 5)]
        assert dict(inventory.rows(select(tags.c.name, tags.c.is_protected))) == {"v1": 1, "main": 0}
        access = inventory.database.read_now(lambda connection: load_access(connection, NAME))
        assert access is not None
        assert access.user == "ann"
        inventory.connector.questions.clear()
        await inventory.crawl()
        assert inventory.connector.questions == ["projects"]  # nothing changed, and it is the same day
        inventory.registry.push("team/app", an_image("two"), "v2")
        inventory.registry.clock.present += timedelta(days=1)
        inventory.connector.questions.clear()
        await inventory.crawl()
        assert inventory.connector.questions == ["access", "projects", "size team/app"]
        assert dict(inventory.rows(select(tags.c.name, tags.c.is_protected)))["v2"] == 1


async def test_what_cannot_be_found_out_about_projects_is_a_doubt_and_no_failure() -> None:
    with opened(Owned) as inventory:
        for name in ("team/app", "team/tool"):
            inventory.registry.push(name, an_image("one"), "1.0")
        inventory.connector.failures = {"access", "projects", "size team/app", "size team/tool"}
        report = await inventory.crawl()
        assert report.state == "complete"
        assert sum("GitLab is away" in one for one in report.certificate.doubts) == 3


async def test_where_the_registry_has_no_figures_it_is_asked_once() -> None:
    with opened(Owned) as inventory:
        inventory.connector.size = None
        for name in ("team/app", "team/other", "team/tool"):
            inventory.registry.push(name, an_image("one"), "1.0")
        await inventory.crawl()
        assert [one for one in inventory.connector.questions if one.startswith("size")] == ["size team/app"]
