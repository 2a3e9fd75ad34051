"""Commands that write, beside a service that has the database: they go through its socket."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from regwarden import Conflict, InputError, NotFound, RegistryDenied, RegistryUnreachable, connect, library_remote
from regwarden.flows.crawl import CrawlReport, Progress
from regwarden.library_remote import absolute_files, find_service
from regwarden.store.database import Access, open_database
from regwarden.store.service_socket import bind_socket, socket_beside
from regwarden.testing.authentication import BasicAuth
from regwarden.testing.behaviour import Behaviour
from regwarden.testing.content import Content
from regwarden.testing.images import image, layer
from regwarden.testing.server import SampleRegistry, running_sample_registry
from tests.control_service import control_service
from tests.sample_inventory import isolated_environment, run_cli, small_registry


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'inventory.sqlite3'}"


@contextmanager
def slow_registry() -> Iterator[SampleRegistry]:
    content = Content()
    for number in range(40):
        for release in range(10):
            content.repository(f"app{number:02}").add(image([layer(f"{number} {release}", 10)]), f"{release}")
    with running_sample_registry(content, behaviour=Behaviour(latency_seconds=0.01)) as registry:
        yield registry


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_crawl_beside_the_service_is_done_by_the_service(url):
    states: list[Progress] = []
    with small_registry() as registry, control_service(url), connect(url, environ={}) as inventory:
        report = inventory.crawl(registry.url, name="small", on_progress=states.append)
        assert inventory.count("tag") == 5
        assert inventory.crawl("small").certificate.new_tag_count == 0
    assert isinstance(report, CrawlReport)
    assert (report.registry, report.state, report.certificate.new_tag_count) == ("small", "complete", 5)
    assert report.certificate.started_at.tzinfo is not None
    assert isinstance(states[-1], Progress)
    assert (states[-1].phase, states[-1].tags_done) == ("done", 5)


def test_the_command_line_does_not_differ(url, tmp_path):
    with small_registry() as registry, control_service(url):
        beside = run_cli(tmp_path, "crawl", registry.url, "--database", url)
        refreshed = run_cli(tmp_path, "tag", "list", "--refresh", "--count", "--database", url)
    assert (beside.exit_code, refreshed.exit_code) == (0, 0), beside.stderr + refreshed.stderr
    assert refreshed.stdout.strip() == "5"
    assert "complete" in beside.stdout


def test_passwords_and_wrong_ones_travel_to_the_service_and_are_not_printed(url, capfd):
    auth = BasicAuth({"reader": "s3cret"})
    with small_registry(auth) as registry, control_service(url), connect(url, environ={}) as inventory:
        with pytest.raises(RegistryDenied) as caught:
            inventory.crawl(registry.url, username="reader", password="wrong-one")
        assert inventory.crawl(registry.url, username="reader", password="s3cret").state == "complete"
    assert caught.value.status == 401
    printed = "".join(capfd.readouterr())
    assert "wrong-one" not in printed
    assert "s3cret" not in printed


def test_errors_arrive_as_they_are(url):
    with control_service(url), connect(url, environ={}) as inventory:
        with pytest.raises(NotFound) as unknown:
            inventory.crawl("nowhere")
        assert unknown.value.code == "unknown-registry"
        with pytest.raises(RegistryUnreachable):
            inventory.crawl("http://127.0.0.1:9")
        with pytest.raises(InputError, match="'user'"):
            inventory.crawl("https://x.example", user="me")  # type: ignore[call-arg]
        with pytest.raises(InputError, match="concurrency") as mistyped:
            inventory.crawl("https://x.example", concurrency="many")  # type: ignore[arg-type]
        assert mistyped.value.code == "bad-request"
        with pytest.raises(InputError, match="object"):
            inventory.crawl("https://x.example", name=object())  # type: ignore[arg-type]


def test_warnings_are_told_here(url):
    warnings: list[str] = []
    with control_service(url), connect(url, environ={}) as inventory, pytest.raises(RegistryUnreachable):
        inventory.crawl("http://name.invalid", username="a", password="b", on_warning=warnings.append)
    assert any("unencrypted" in text for text in warnings)


def test_a_registry_that_the_service_is_crawling_is_not_crawled_twice(url):
    with small_registry() as registry, control_service(url) as database, connect(url, environ={}) as inventory:
        inventory.crawl(registry.url, name="small")
        with database.exclusive("crawl small"), pytest.raises(Conflict) as caught:
            inventory.crawl("small")
        assert (caught.value.code, caught.value.message) == (
            "database-busy",
            "this process is already at work on crawl small",
        )


def test_several_clients_crawl_at_once(url):
    environ = environment(Path(url.removeprefix("sqlite:///")).parent)
    with (
        small_registry() as one,
        small_registry() as other,
        control_service(url),
        connect(url, environ={}) as inventory,
    ):
        clients = [
            start_crawl(url, registry, environ, "--name", name) for registry, name in ((one, "one"), (other, "other"))
        ]
        answers = [client.communicate(timeout=60) for client in clients]
        assert [client.returncode for client in clients] == [0, 0], answers
        assert [row.tag_count for row in inventory.registries()] == [5, 5]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=lambda how: how.name)
def test_a_client_that_is_stopped_stops_the_crawl_which_can_be_continued(url, tmp_path, how):
    with slow_registry() as registry, control_service(url) as database, connect(url, environ={}) as inventory:
        client = start_crawl(url, registry, environment(tmp_path), "--name", "slow")
        wait_until(lambda: len(registry.requests) > 300)
        client.send_signal(how)
        _, stderr = client.communicate(timeout=30)
        wait_until(lambda: "crawl slow" not in database._names)
        before = len(registry.requests)
        time.sleep(0.5)
        assert len(registry.requests) - before <= 16  # what was in flight is answered, nothing more is asked
        report = inventory.crawl("slow")
        assert (report.state, report.certificate.was_resumed) == ("complete", True)
        assert inventory.count("tag") == 400
    assert "Traceback" not in stderr
    if how is signal.SIGINT:
        assert client.returncode == 130
        assert "continue" in stderr


def test_without_a_service_a_locked_database_is_busy_as_ever(url):
    path = socket_beside(url)
    assert path is not None
    with open_database(url, access=Access.WRITE, create=True):
        bind_socket(path).close()  # a service that was killed has left it
        assert find_service(url) is None
        with connect(url, environ={}) as inventory, pytest.raises(Conflict) as caught:
            inventory.crawl("https://registry.example")
    assert caught.value.code == "database-busy"
    assert "another regwarden process" in caught.value.message


def test_a_service_that_was_killed_is_not_asked_and_its_database_is_free(url):
    path = socket_beside(url)
    assert path is not None
    bind_socket(path).close()
    with small_registry() as registry, connect(url, environ={}) as inventory:
        assert inventory.crawl(registry.url).state == "complete"


def test_where_there_are_no_unix_sockets_the_message_says_so(url, monkeypatch):
    monkeypatch.setattr(library_remote, "has_unix_sockets", lambda: False)
    with control_service(url), connect(url, environ={}) as inventory, pytest.raises(Conflict) as caught:
        inventory.crawl("https://registry.example")
    assert caught.value.code == "database-busy"
    assert "no Unix sockets" in caught.value.hint


def test_migrating_beside_the_service_says_to_stop_it(url, tmp_path):
    with control_service(url):
        beside = run_cli(tmp_path, "db", "migrate", "--database", url)
    with open_database(url, access=Access.WRITE):
        locked = run_cli(tmp_path, "db", "migrate", "--database", url)
    assert beside.exit_code == locked.exit_code == 1
    assert "error[service-running]" in beside.stderr
    assert "stop `regwarden serve`" in beside.stderr
    assert "error[database-busy]" in locked.stderr


def test_file_names_mean_the_same_file_in_the_service(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute_files({"ca_bundle": "ca.pem", "name": "x", "client_key": ""}) == {
        "ca_bundle": str(tmp_path / "ca.pem"),
        "name": "x",
        "client_key": "",
    }


def environment(place: Path) -> dict[str, str]:
    isolated = isolated_environment(place)
    return {name: value for name, value in (os.environ | isolated).items() if value is not None}


def start_crawl(url: str, registry: SampleRegistry, environ: dict[str, str], *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "regwarden", "crawl", registry.url, "--database", url, *more]
    return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
