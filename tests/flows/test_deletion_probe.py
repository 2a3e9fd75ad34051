"""Asking whether a registry deletes: what it says is kept, what it refuses to say changes nothing that was known."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from regwarden.errors import InputError
from regwarden.flows.deletion_probe import ask_deletion, parse_capabilities, probe_deletion
from regwarden.flows.services import Services
from regwarden.registries.api import Ability, Capabilities
from regwarden.registries.client.credentials import Basic
from regwarden.registries.client.limits import Limits
from regwarden.registries.client.settings import ClientSettings
from regwarden.registries.distribution.connector import open_connector
from regwarden.store.capabilities import load_capabilities
from regwarden.testing.authentication import BearerAuth
from regwarden.testing.behaviour import Behaviour
from regwarden.testing.content import Content
from regwarden.testing.images import image
from regwarden.testing.server import SampleRegistry
from tests.crawling import NAME, Inventory, open_inventory


@pytest.fixture
async def registry():
    content = Content()
    content.repository("team/app").add(image([]), "1.0")
    async with SampleRegistry(content, behaviour=Behaviour.distribution_3()) as registry:
        yield registry


@pytest.fixture
async def inventory(registry):
    async with open_inventory(registry.url, limits=Limits(retries=0, retry_wait_seconds=0.01)) as inventory:
        yield inventory


@asynccontextmanager
async def _reconnected(inventory: Inventory, url: str) -> AsyncIterator[None]:
    """Inside, the inventory has a connector that knows nothing yet, as in a new process."""
    before, inventory.connector = inventory.connector, open_connector(ClientSettings(url))
    try:
        yield
    finally:
        await inventory.connector.close()
        inventory.connector = before


async def _probe(inventory: Inventory) -> Capabilities:
    services = Services(inventory.database, inventory.now, {NAME: inventory.connector})
    return await probe_deletion(services, NAME, "team/app")


def _stored(inventory: Inventory) -> dict[str, str]:
    return inventory.database.read_now(lambda connection: load_capabilities(connection, NAME))


async def test_the_answer_is_kept_beside_what_was_known_and_nothing_is_changed(registry, inventory):
    await inventory.crawl()
    registry.forget()
    found = await _probe(inventory)
    assert (found.delete, found.delete_tag, found.catalog) == (Ability.SUPPORTED,) * 3
    assert (_stored(inventory)["delete"], _stored(inventory)["catalog"]) == ("supported", "supported")
    assert registry.events == []
    assert sorted(registry.content.repositories["team/app"].tags) == ["1.0"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"can_delete": False, "can_delete_tag": False}, (Ability.UNSUPPORTED, Ability.UNSUPPORTED)),
        ({"can_delete_tag": False}, (Ability.SUPPORTED, Ability.UNSUPPORTED)),
    ],
)
async def test_what_is_switched_off_is_known_to_be_off(registry, inventory, changes, expected):
    for name, value in changes.items():
        setattr(registry.behaviour, name, value)
    await inventory.crawl()
    found = await _probe(inventory)
    assert (found.delete, found.delete_tag) == expected


async def test_a_crawl_neither_asks_nor_forgets(registry, inventory):
    await inventory.crawl()
    assert _stored(inventory)["delete"] == "unknown"
    await _probe(inventory)
    registry.forget()
    async with _reconnected(inventory, registry.url):
        await inventory.crawl(verify=True)
    assert "DELETE" not in {request.method for request in registry.requests}
    assert (_stored(inventory)["delete"], _stored(inventory)["delete_tag"]) == ("supported", "supported")


async def test_at_a_new_address_what_was_known_of_deletion_does_not_count(registry, inventory):
    await inventory.crawl()
    await _probe(inventory)
    inventory.fingerprint = "two"
    async with _reconnected(inventory, registry.url):
        await inventory.crawl()
    assert _stored(inventory)["delete"] == "unknown"


async def test_a_probe_before_the_first_crawl_does_not_keep_it_from_asking_the_rest(registry, inventory):
    await inventory.crawl()
    inventory.database.write_now(
        lambda connection: connection.exec_driver_sql("UPDATE registries SET capabilities = '{}'")
    )
    await _probe(inventory)
    assert set(_stored(inventory)) == {"delete", "delete_tag"}
    await inventory.crawl()
    assert _stored(inventory)["referrers"] == "unsupported"


async def _does_not_say(inventory: Inventory) -> str:
    found = await _probe(inventory)
    assert (found.delete, found.delete_tag) == (Ability.SUPPORTED, Ability.SUPPORTED), "what was known stays"
    answer = await ask_deletion(inventory.connector, "team/app")
    assert answer.delete is Ability.UNKNOWN
    assert answer.error is not None
    return answer.error.code


async def test_a_registry_that_does_not_say_leaves_what_was_known(registry, inventory):
    await inventory.crawl()
    await _probe(inventory)
    async with _reconnected(inventory, "http://127.0.0.1:1"):
        assert await _does_not_say(inventory) == "registry-unreachable"
    registry.behaviour.is_read_only = True
    assert await _does_not_say(inventory) == "registry-read-only"


async def test_who_may_not_delete_is_asked_once_and_told_why():
    auth = BearerAuth({"ann": "pw"}, denied_repositories=frozenset({"team/app"}))
    async with SampleRegistry(Content(), auth=auth) as registry:
        connector = open_connector(ClientSettings(registry.url, credentials=Basic("ann", "pw")))
        answer = await ask_deletion(connector, "team/app")
        await connector.close()
    assert (answer.delete, answer.delete_tag) == (Ability.UNKNOWN, Ability.UNKNOWN)
    assert answer.error is not None
    assert "right to delete" in answer.error.hint
    assert sum(request.path == "/token" for request in registry.requests) == 1


async def test_a_name_that_is_none_is_refused(inventory):
    services = Services(inventory.database, inventory.now, {NAME: inventory.connector})
    with pytest.raises(InputError):
        await probe_deletion(services, NAME, "Not A Name")


def test_a_record_of_another_release_is_read_as_far_as_it_can_be():
    known = {"delete": "supported", "delete_tag": "sometimes", "teleport": "supported", "server": "GitLab 4.32"}
    assert parse_capabilities(known) == Capabilities(delete=Ability.SUPPORTED, server="GitLab 4.32")
