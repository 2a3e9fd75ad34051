"""What ``registry check`` says about deletion, how to switch it on, and that the answer is kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from regwarden.store.capabilities import load_capabilities
from regwarden.store.database import Access, open_database
from regwarden.testing.authentication import BearerAuth
from regwarden.testing.behaviour import Behaviour
from regwarden.testing.content import Content
from regwarden.testing.images import image
from regwarden.testing.server import Listen, SampleRegistry, running_sample_registry
from tests.control_service import control_service
from tests.fixtures.distribution_servers import StartRegistry
from tests.sample_inventory import Run

Ask = Callable[..., Any]


@pytest.fixture
def registry() -> Iterator[SampleRegistry]:
    content = Content()
    content.repository("team/app").add(image([]), "1.0")
    with running_sample_registry(content, behaviour=Behaviour.distribution_3()) as registry:
        yield registry


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'inventory.sqlite3'}"


@pytest.fixture
def ask(run: Run, url: str) -> Ask:
    return lambda *arguments: run(*arguments, "--database", url)


def _stored(url: str, name: str) -> dict[str, str]:
    with open_database(url, access=Access.READ) as database:
        return database.read_now(lambda connection: load_capabilities(connection, name))


def _name(registry: SampleRegistry) -> str:
    return registry.url.removeprefix("http://")


def test_without_a_known_repository_it_is_unknown_and_why(ask: Ask, registry: SampleRegistry, tmp_path: Path) -> None:
    told = ask("registry", "check", registry.url).stdout
    assert "not known whether it can delete manifests: the inventory knows no repository of it" in told
    assert "crawl it first" in told
    assert "DELETE" not in {request.method for request in registry.requests}
    assert not (tmp_path / "inventory.sqlite3").exists()


def test_a_registry_that_deletes_is_said_to_and_the_answer_is_kept(
    ask: Ask, registry: SampleRegistry, url: str
) -> None:
    ask("crawl", registry.url)
    registry.forget()
    told = ask("registry", "check", registry.url)
    assert told.exit_code == 0, told.stderr
    assert "  can delete manifests\n" in told.stdout
    assert "  can remove tags alone\n" in told.stdout
    assert "REGISTRY_STORAGE" not in told.stdout
    assert registry.events == []
    assert {(one.method, one.status) for one in registry.requests if one.method == "DELETE"} == {("DELETE", 404)}
    stored = _stored(url, _name(registry))
    assert (stored["delete"], stored["delete_tag"], stored["catalog"]) == ("supported",) * 3


def test_one_that_does_not_delete_is_told_how_to_switch_it_on(ask: Ask, registry: SampleRegistry, url: str) -> None:
    ask("crawl", registry.url)
    registry.behaviour.can_delete = False
    told = ask("registry", "check", registry.url).stdout
    assert "  cannot delete manifests\n" in told
    assert "    storage:\n      delete:\n        enabled: true\n" in told
    assert "REGISTRY_STORAGE_DELETE_ENABLED=true" in told
    assert _stored(url, _name(registry))["delete"] == "unsupported"
    (row,) = json.loads(ask("registry", "check", registry.url, "--output", "json").stdout)
    assert (row["probed_repository"], row["capabilities"]["delete"]) == ("team/app", "unsupported")
    assert row["deletion_configuration"][1] == "REGISTRY_STORAGE_DELETE_ENABLED=true"


def test_one_in_read_only_mode_is_not_said_to_be_switched_off(ask: Ask, registry: SampleRegistry, url: str) -> None:
    ask("crawl", registry.url)
    registry.behaviour.is_read_only = True
    told = ask("registry", "check", registry.url).stdout
    assert "not known whether it can delete manifests: the registry is in read-only mode" in told
    assert "REGISTRY_STORAGE" not in told
    assert _stored(url, _name(registry))["delete"] == "unknown"


def test_a_user_without_the_right_is_told_so(run: Run, url: str, tmp_path: Path) -> None:
    content = Content()
    content.repository("team/app").add(image([]), "1.0")
    with running_sample_registry(content) as open_one:
        run("crawl", open_one.url, "--database", url)
        host = _name(open_one)
    port = int(host.rpartition(":")[2])
    password = tmp_path / "password"
    password.write_text("pw\n")
    auth = BearerAuth({"ann": "pw"}, denied_repositories=frozenset({"team/app"}))
    with running_sample_registry(content, auth=auth, listen=Listen(port=port)) as closed:
        arguments = ("registry", "check", closed.url, "--user", "ann", "--password-file", str(password))
        told = run(*arguments, "--database", url)
    assert told.exit_code == 0, told.stderr
    assert "not known whether it can delete manifests: the registry refuses access" in told.stdout
    assert "Give this user the right to delete there." in told.stdout


def test_while_another_process_writes_the_answer_is_shown_and_not_kept(
    ask: Ask, registry: SampleRegistry, url: str
) -> None:
    ask("crawl", registry.url)
    with open_database(url, access=Access.WRITE, create=False):
        told = ask("registry", "check", registry.url)
    assert told.exit_code == 0, told.stderr
    assert "  can delete manifests\n" in told.stdout
    assert _stored(url, _name(registry))["delete"] == "unknown"


def test_while_the_service_writes_it_keeps_the_answer(ask: Ask, registry: SampleRegistry, url: str) -> None:
    ask("crawl", registry.url)
    with control_service(url):
        assert "  can delete manifests\n" in ask("registry", "check", registry.url).stdout
    assert _stored(url, _name(registry))["delete"] == "supported"


@pytest.mark.e2e
@pytest.mark.parametrize(("server", "can_untag"), [("docker_registry", False), ("distribution3", True)])
def test_what_is_printed_switches_a_real_registry_on(
    request: pytest.FixtureRequest, ask: Ask, server: str, can_untag: bool
) -> None:
    start: StartRegistry = request.getfixturevalue(server)
    running = start(can_delete=False)
    for part in ("_layers", "_manifests/tags"):
        (running.root / "docker/registry/v2/repositories/team/app" / part).mkdir(parents=True)
    ask("crawl", running.url)
    told = ask("registry", "check", running.url).stdout
    assert "  cannot delete manifests\n" in told
    (row,) = json.loads(ask("registry", "check", running.url, "--output", "json").stdout)
    lines, variable = row["deletion_configuration"]
    running.stop()
    assert lines.split() == ["storage:", "delete:", "enabled:", "true"]
    del running.config["storage"]["delete"]
    name, _, value = variable.partition("=")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(name, value)
        running.start()
    again = ask("registry", "check", running.url).stdout
    assert "  can delete manifests\n" in again
    assert f"  {'can' if can_untag else 'cannot'} remove tags alone\n" in again
