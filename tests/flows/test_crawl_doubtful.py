"""Crawls of registries that contradict themselves or change under the crawl: what is not proven gone stays."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from regwarden.core.patterns import parse_pattern
from regwarden.flows import crawl as crawl_flow
from regwarden.registries.client.limits import Limits
from regwarden.registries.client.settings import ClientSettings
from regwarden.registries.distribution.connector import open_connector
from regwarden.store.schema import crawls, registries, repositories, tag_history, tags
from regwarden.testing.behaviour import Fault
from regwarden.testing.content import Content
from regwarden.testing.images import image, layer
from regwarden.testing.server import SampleRegistry
from tests.crawling import Inventory, open_inventory

UNKNOWN_NAME = '{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known to registry"}]}'


def an_image(seed: str):
    return image([layer(seed, 10)])


@pytest.fixture
def content():
    content = Content()
    for number in range(12):
        repository = content.repository(f"team/app{number:02}")
        for release in range(12):
            repository.add(an_image(f"{number} {release}"), f"1.{release}")
    return content


@pytest.fixture
async def registry(content):
    async with SampleRegistry(content) as registry:
        yield registry


@pytest.fixture
async def inventory(registry):
    limits = Limits(retries=0, retry_wait_seconds=0.01)
    async with open_inventory(registry.url, limits=limits) as inventory:
        yield inventory


class Killed(Exception):
    """What stands for a crawl that was killed."""


async def kill_at(inventory: Inventory, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Crawl, and be killed where the crawl takes ``step`` (a function it calls)."""

    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(crawl_flow, step, kill)
        with pytest.raises(Killed):
            await inventory.crawl()


def tags_of(inventory: Inventory, repository: str) -> set[str]:
    statement = select(tags.c.name).select_from(tags.join(repositories)).where(repositories.c.name == repository)
    return {row["name"] for row in inventory.rows(statement)}


def repository_row(inventory: Inventory, name: str):
    return inventory.rows(select(repositories).where(repositories.c.name == name))[0]


@pytest.mark.parametrize("answers", [[], [Fault(503)] * 50], ids=["they answer", "they fail"])
async def test_a_repository_without_listings_is_not_gone_while_its_tags_are_not(registry, inventory, answers):
    await inventory.crawl()
    registry.behaviour.hidden_repositories = {"team/app03"}
    registry.behaviour.faults["GET", "/v2/team/app03/tags/list"] = [Fault(404, UNKNOWN_NAME)] * 5
    registry.behaviour.faults["GET", "/v2/team/app03/manifests/.*"] = answers
    report = await inventory.crawl()
    assert report.certificate.gone_repository_count == 0
    assert report.state == "partial"
    assert repository_row(inventory, "team/app03")["deleted_at"] is None
    assert len(tags_of(inventory, "team/app03")) == 12


async def test_a_crawl_cut_off_at_another_address_is_not_continued_at_this_one(content, inventory, monkeypatch):
    await inventory.crawl()
    lost = content.repositories.pop("team/app03")
    inventory.fingerprint = "elsewhere"
    await kill_at(inventory, monkeypatch, "load_disappearance")
    content.repositories["team/app03"] = lost
    content.repository("team/app04").tags.pop("1.0")
    inventory.fingerprint = "one"
    report = await inventory.crawl()
    assert not report.certificate.was_resumed
    assert report.certificate.gone_repository_count == 0
    assert len(tags_of(inventory, "team/app03")) == 12
    assert [row["state"] for row in inventory.rows(select(crawls).order_by(crawls.c.id))] == [
        "complete",
        "interrupted",
        "complete",
    ]


async def test_a_suspicion_outlives_a_kill_before_the_end_of_the_crawl(content, inventory, monkeypatch):
    await inventory.crawl()
    content.repository("team/app03").tags.clear()
    inventory.fingerprint = "two"
    await kill_at(inventory, monkeypatch, "materialise_sizes")
    report = await inventory.crawl()
    assert report.certificate.was_resumed
    assert report.state == "partial"
    assert any("all 12 tags of team/app03" in doubt for doubt in report.certificate.doubts)
    assert len(tags_of(inventory, "team/app03")) == 12


@pytest.mark.parametrize("restricted", [True, False], ids=["restricted", "partial"])
async def test_new_credentials_are_not_trusted_for_what_they_have_not_shown_yet(
    content, registry, inventory, restricted
):
    await inventory.crawl()
    inventory.fingerprint = "two"
    if restricted:
        await inventory.crawl(repositories=(parse_pattern("team/app01"),))
    else:
        registry.behaviour.faults["GET", "/v2/team/app03/.*"] = [Fault(403)]
        await inventory.crawl()
    content.repository("team/app03").tags.clear()
    report = await inventory.crawl()
    assert report.state == "partial"
    assert len(tags_of(inventory, "team/app03")) == 12


async def test_new_tags_in_an_emptied_repository_do_not_make_it_trusted(content, inventory):
    await inventory.crawl()
    inventory.fingerprint = "two"
    content.repository("team/app03").tags.clear()
    content.repository("team/app03").add(an_image("of somebody else"), "other")
    report = await inventory.crawl()
    assert report.state == "partial"
    assert len(tags_of(inventory, "team/app03")) == 13


async def test_why_nothing_was_marked_as_gone_is_said_before_all_other_doubts(content, registry, inventory):
    await inventory.crawl()
    for number in range(3):
        content.repository(f"team/app{number:02}").tags.clear()
    registry.behaviour.hidden_tags = {f"team/app{n:02}:1.{release}" for n in range(5, 10) for release in range(10)}
    report = await inventory.crawl()
    assert report.state == "partial"
    assert "36 of 144 known tags have vanished" in report.certificate.doubts[0]


async def test_a_tag_that_came_back_before_the_crawl_went_on_is_not_gone(content, registry, inventory, monkeypatch):
    await inventory.crawl()
    digest = content.repository("team/app03").tags.pop("1.0")
    registry.behaviour.faults["GET", "/v2/team/app03/manifests/1.1"] = [Fault(503)]
    await kill_at(inventory, monkeypatch, "load_disappearance")
    content.repository("team/app03").set_tag("1.0", digest)
    report = await inventory.crawl()
    assert report.certificate.was_resumed
    assert "1.0" in tags_of(inventory, "team/app03")
    assert not inventory.rows(select(tag_history).where(tag_history.c.digest == b""))


async def test_a_repository_that_fails_when_the_crawl_goes_on_is_not_gone(content, registry, inventory, monkeypatch):
    await inventory.crawl()
    lost = content.repositories.pop("team/app03")
    await kill_at(inventory, monkeypatch, "load_disappearance")
    content.repositories["team/app03"] = lost
    registry.behaviour.faults["GET", "/v2/team/app03/tags/list"] = [Fault(403)]
    report = await inventory.crawl()
    assert report.certificate.was_resumed
    assert report.state == "partial"
    assert repository_row(inventory, "team/app03")["deleted_at"] is None


async def test_a_named_repository_that_is_not_there_is_mentioned(inventory):
    report = await inventory.crawl(repositories=(parse_pattern("team/ap01"),))
    assert any("team/ap01" in doubt for doubt in report.certificate.doubts)


async def test_capabilities_are_asked_for_again_at_a_new_address(registry, inventory):
    await inventory.crawl()
    registry.behaviour.has_referrers_api = True
    inventory.fingerprint = "two"
    inventory.connector, before = open_connector(ClientSettings(registry.url)), inventory.connector
    await inventory.crawl()
    await inventory.connector.close()
    inventory.connector = before
    assert '"referrers":"supported"' in inventory.rows(select(registries))[0]["capabilities"]


async def test_a_repository_that_lost_its_tags_is_not_gone_while_its_manifests_are_there(content, inventory):
    await inventory.crawl()
    content.repository("team/app03").tags.clear()
    content.repository("team/app03").has_tag_list = False
    only = (parse_pattern("team/app03"),)
    report = await inventory.crawl(repositories=only, accept_disappearance=True)
    assert report.certificate.gone_tag_count == 12
    assert report.certificate.gone_repository_count == 0
    assert repository_row(inventory, "team/app03")["deleted_at"] is None
