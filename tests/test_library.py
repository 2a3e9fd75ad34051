"""The public Python interface, as a script would use it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import regwarden
from regwarden import InputError, Inventory, NotFound, RegistryDenied, RegistryUnreachable, StoreError, connect
from regwarden.flows.crawl import Progress
from regwarden.testing.authentication import BasicAuth
from tests.sample_inventory import APP_BYTES, BASE_BYTES, small_registry


@pytest.fixture(scope="module")
def crawled(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite:///{tmp_path_factory.mktemp('library') / 'inventory.sqlite3'}"
    with small_registry() as registry, connect(url, environ={}) as inventory:
        report = inventory.crawl(registry.url, name="small")
    assert report.state == "complete"
    return url


@pytest.fixture
def inventory(crawled: str) -> Iterator[Inventory]:
    with connect(crawled, environ={}) as opened:
        yield opened


def test_every_public_name_can_be_imported() -> None:
    for name in regwarden.__all__:
        assert getattr(regwarden, name) is not None
    with pytest.raises(AttributeError):
        regwarden.nothing  # noqa: B018


def test_rows_have_attributes_and_are_mappings(inventory: Inventory) -> None:
    row = inventory.tags("team/app:1.0.0")[0]
    assert (row.tag, row["repository"]) == ("1.0.0", "team/app")
    assert dict(row)["registry"] == "small"
    with pytest.raises(AttributeError, match="no field 'colour'"):
        _ = row.colour
    with pytest.raises(AttributeError):
        row.tag = "2"  # type: ignore[attr-defined]


def test_tags_are_selected_sorted_and_limited(inventory: Inventory) -> None:
    newest = inventory.tags("glob:team/*", where=["created > 2026-01-15"], sort=["-created", "tag"], limit=2)
    assert [row.tag for row in newest] == ["1.2.0", "latest"]


def test_a_single_text_is_meant_as_a_list_of_one(inventory: Inventory) -> None:
    assert inventory.count("tag", where="tag = edge", repositories="team/web") == 1


def test_pages_follow_each_other(inventory: Inventory) -> None:
    first = inventory.page("tag", limit=3)
    second = inventory.page("tag", limit=3, cursor=first.next_cursor)
    assert [row.tag for row in (*first.rows, *second.rows)] == [row.tag for row in inventory.iterate("tag", limit=2)]
    assert second.next_cursor is None


def test_unknown_rows_are_counted_on_request(inventory: Inventory) -> None:
    page = inventory.page("tag", where=["pulled > 1d"], count_unknown=True)
    assert (page.rows, page.unknown_count) == ((), 5)
    assert len(inventory.tags(where=["pulled > 1d"], include_unknown=True)) == 5


def test_repositories_manifests_blobs_and_registries_are_listed(inventory: Inventory) -> None:
    assert [row.repository for row in inventory.repositories()] == ["team/app", "team/web"]
    assert inventory.count("manifest") == len(inventory.manifests()) == 6
    assert inventory.blobs("team/web", where=["size = 1000000B"])[0].size_bytes == BASE_BYTES
    (registry,) = inventory.registries()
    assert (registry.registry, registry.tag_count, registry.crawl_state) == ("small", 5, "complete")
    assert inventory.coverage()[0].state == "complete"
    assert inventory.problems() == []


def test_a_selection_weighs_what_its_tags_hold_together(inventory: Inventory) -> None:
    everything = inventory.sizes()[0]
    assert (everything.tag_count, everything.exclusive_bytes) == (5, everything.stored_bytes)
    assert everything.reclaimable_bytes == everything.stored_bytes == inventory.registries()[0].stored_bytes
    app, web = inventory.sizes("team/app")[0], inventory.sizes("team/web")[0]
    assert app.stored_bytes == inventory.repository("team/app").stored_bytes
    assert app.shared_bytes == web.shared_bytes == BASE_BYTES
    assert app.logical_bytes == sum(row.logical_bytes for row in inventory.tags("team/app"))


def test_a_manifest_with_another_tag_is_not_freed(inventory: Inventory) -> None:
    alone = inventory.sizes("team/app:latest")[0]
    both = inventory.sizes("team/app:latest", "team/app:1.2.0")[0]
    assert alone.reclaimable_bytes == alone.exclusive_bytes == 0
    assert both.reclaimable_bytes == both.exclusive_bytes > 3 * APP_BYTES
    assert inventory.sizes(where=["tag = none"]) == []


def test_usage_and_single_things(inventory: Inventory) -> None:
    assert inventory.usage(top=1).by_stored[0].repository == "team/app"
    assert inventory.repository("team/web").tag_count == 1
    digest = inventory.digest_of("team/web:edge")
    manifest = inventory.find_content(digest).manifest
    assert manifest is not None
    assert manifest.is_index
    with pytest.raises(NotFound):
        inventory.tag("team/web:none")


@pytest.mark.parametrize(
    "call",
    [
        lambda inventory: inventory.tags(where=["nonsense"]),
        lambda inventory: inventory.tags(conditions=["size > 1"]),
        lambda inventory: inventory.tags(limit=0),
        lambda inventory: inventory.count("image"),
        lambda inventory: inventory.crawl("https://x.example", user="me"),
    ],
)
def test_an_argument_that_makes_no_sense_is_an_input_error(inventory: Inventory, call) -> None:
    with pytest.raises(InputError) as caught:
        call(inventory)
    assert caught.value.hint


def test_without_an_inventory_asking_fails_with_its_code(tmp_path: Path) -> None:
    with connect(f"sqlite:///{tmp_path / 'none.sqlite3'}", environ={}) as empty, pytest.raises(StoreError) as caught:
        empty.tags()
    assert caught.value.code == "no-inventory"


def test_memory_keeps_what_was_crawled_while_it_is_open() -> None:
    with small_registry() as registry, connect(":memory:", environ={}) as inventory:
        inventory.crawl(registry.url)
        assert inventory.count("tag") == 5


def test_credentials_are_arguments_and_wrong_ones_are_denied(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.sqlite3'}"
    with small_registry(BasicAuth({"reader": "s3cret"})) as registry, connect(url, environ={}) as inventory:
        assert inventory.crawl(registry.url, username="reader", password="s3cret").state == "complete"
        with pytest.raises(RegistryDenied):
            inventory.crawl(registry.url, username="reader", password="wrong")
        assert inventory.count("tag") == 5


def test_a_registry_that_is_not_there_is_an_error_and_a_check_says_so() -> None:
    with connect(":memory:", environ={}) as inventory:
        with pytest.raises(RegistryUnreachable):
            inventory.crawl("http://127.0.0.1:1")
        error = inventory.check("http://127.0.0.1:1").error
    assert error is not None
    assert error.code == "registry-unreachable"


def test_progress_is_told_up_to_the_end() -> None:
    seen: list[Progress] = []
    with small_registry() as registry, connect(":memory:", environ={}) as inventory:
        inventory.crawl(registry.url, on_progress=seen.append)
    assert seen[-1].phase == "done"
    assert (seen[-1].repositories_done, seen[-1].tags_done) == (2, 5)


def test_the_installation_is_the_same_for_every_crawl_into_a_database(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.sqlite3'}"
    agents = set()
    with small_registry() as registry:
        for _ in range(2):
            with connect(url, environ={}) as inventory:
                inventory.crawl(registry.url)
        agents = {request.user_agent for request in registry.requests}
    (agent,) = agents
    assert agent.startswith(f"regwarden/{regwarden.__version__} (")


def test_exported_rows_come_from_one_moment(inventory: Inventory) -> None:
    texts = inventory.consume("tag", lambda rows: [json.dumps(row["tag"]) for row in rows])
    assert len(texts) == 5
