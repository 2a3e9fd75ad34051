"""What ``registry check`` says about notifications, and that a real registry does what its block promises."""

from __future__ import annotations

import hashlib
import json
import threading
import tomllib
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from sqlalchemy import update

from regwarden import clock, connect
from regwarden.errors import Conflict, NotFound
from regwarden.store.database import Access, open_database
from regwarden.store.schema import registries
from regwarden.store.times import to_micros
from tests import servers
from tests.notifications import apply_all, envelope, push, store_bodies
from tests.sample_inventory import Run


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "regwarden.toml"
    file.write_text('[[registry]]\nname = "prod"\nurl = "http://127.0.0.1:1"\n')
    return file


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'inventory.sqlite3'}"


@pytest.fixture
def asked(run: Run, url: str, config: Path) -> Run:
    def ask(*arguments: str) -> object:
        return run(*arguments, REGWARDEN_DATABASE=url, REGWARDEN_CONFIG=str(config))

    return ask  # type: ignore[return-value]


def _notifications(asked: Run, *arguments: str) -> dict[str, object]:
    (row,) = json.loads(asked("registry", "check", *arguments, "--output", "json").stdout)
    found: dict[str, object] = row["notifications"]
    return found


def test_a_check_prints_the_block_with_a_secret_that_stays(asked: Run) -> None:
    result = asked("registry", "check", "prod")
    secret = asked("registry", "secret", "prod").stdout.strip()
    assert len(secret) >= 32
    assert f'Authorization: ["Bearer {secret}"]' in result.stdout
    assert 'url: "http://127.0.0.1:8350/hooks/prod"' in result.stdout
    assert "ignoredmediatypes: [application/octet-stream]" in result.stdout
    assert "no event has ever arrived" in result.stdout
    assert "only a registry on the same machine reaches" in result.stderr
    assert secret in str(_notifications(asked)["block"])


def test_the_form_the_address_and_the_kind_of_the_block_are_chosen(asked: Run, config: Path) -> None:
    assert _notifications(asked, "--notifications", "none")["block"] == ""
    assert "octet-stream" not in str(_notifications(asked, "--notifications", "full")["block"])
    gitlab = _notifications(asked, "--for", "gitlab", "--hook-url", "https://rw.example.com")
    assert "registry['notifications'] = [" in str(gitlab["block"])
    assert gitlab["url"] == "https://rw.example.com/hooks/prod"
    assert gitlab["remarks"] == []
    config.write_text(f'{config.read_text()}[server]\npublic_url = "https://known.example.com/"\n')
    assert _notifications(asked)["url"] == "https://known.example.com/hooks/prod"
    assert "error[bad-input]" in asked("registry", "check", "--hook-url", "rw.example.com").stderr


def test_a_registry_that_is_not_configured_gets_a_placeholder_and_no_secret(asked: Run, tmp_path: Path) -> None:
    found = _notifications(asked, "http://127.0.0.1:2")
    assert "Bearer SECRET" in str(found["block"])
    assert found["is_usable"] is False
    assert "is not configured" in str(found["remarks"])
    assert not (tmp_path / "inventory.sqlite3").exists()
    refused = asked("registry", "secret", "127.0.0.1:2")
    assert (refused.exit_code, "error[unknown-registry]" in refused.stderr) == (1, True)


def test_while_another_process_writes_no_secret_is_made(asked: Run, url: str) -> None:
    with open_database(url, access=Access.WRITE, create=True):
        found = _notifications(asked)
        assert "Bearer SECRET" in str(found["block"])
        assert "the service makes secrets when it starts" in str(found["remarks"])


def test_a_database_in_memory_keeps_no_secret(run: Run, config: Path) -> None:
    result = run("registry", "check", "--database", ":memory:", REGWARDEN_CONFIG=str(config))
    assert "Bearer SECRET" in result.stdout
    assert "could not be made: the database :memory: keeps nothing" in result.stderr


def test_of_the_secrets_the_two_newest_are_valid(asked: Run, url: str, config: Path) -> None:
    first = asked("registry", "secret", "prod").stdout.split()
    second = asked("registry", "secret", "prod", "--rotate").stdout.split()
    third = asked("registry", "secret", "prod", "--rotate").stdout.split()
    assert (len(first), second[1:], third[1:]) == (1, first, second[:1])
    with connect(url, config=config) as inventory:
        assert inventory.registry_secrets("prod").secrets == tuple(third)
        assert third[0] not in repr(inventory.registry_secrets("prod"))
        with pytest.raises(NotFound):
            inventory.registry_secrets("other")


def test_secrets_in_files_come_before_all_others_and_are_not_rotated(asked: Run, url: str, config: Path) -> None:
    (config.parent / "secret").write_text("from-a-file\n")
    config.write_text(f'{config.read_text()}hook_secret_files = ["{config.parent}/secret"]\n')
    assert asked("registry", "secret", "prod").stdout == "from-a-file\n"
    assert "Bearer from-a-file" in str(_notifications(asked)["block"])
    with connect(url, config=config) as inventory, pytest.raises(Conflict) as error:
        inventory.registry_secrets("prod", rotate=True)
    assert error.value.code == "secret-in-file"


def test_a_check_says_whether_events_arrive_and_what_stands_in_their_way(asked: Run, url: str) -> None:
    with open_database(url, access=Access.WRITE, create=True) as database:
        store_bodies(database, [envelope(push("team/app", "1.0", 1, 0)), b"nonsense"])
        store_bodies(database, [envelope(push("a/b", "1", 1, 4, host="new:5000"))], registry="")
        apply_all(database)
        store_bodies(database, [b"waits"])

        def received(ago: timedelta) -> None:
            at = to_micros(clock.now() - ago)
            database.write_now(
                lambda connection: connection.execute(update(registries).values(delivered_at=at, events_since=at))
            )

        received(timedelta(minutes=3))
    lively = asked("registry", "check", "prod").stdout
    assert "events: last one 3 minutes ago, since 20" in lively
    assert "1 delivery not applied yet" in lively
    assert "1 delivery in quarantine" in lively
    assert "sent by 1 process of 1 address so far; the last at registry-0:5000" in lively
    assert "to be read again" in lively
    assert "next crawl by the service: as soon as it runs" in lively
    assert "events name new:5000, which no registry has (1 event" in lively
    block = lively.partition("add to the configuration file:\n")[2].partition("  or, in the block")[0]
    assert tomllib.loads(block)["registry"] == [{"name": "new:5000", "url": "https://new:5000"}]
    with open_database(url, access=Access.WRITE) as database:
        at = to_micros(clock.now() - timedelta(hours=3, minutes=1))
        database.write_now(lambda connection: connection.execute(update(registries).values(delivered_at=at)))
    assert "events: none for 3 hours; known since 20" in asked("registry", "check", "prod").stdout


class _Hook:
    """Keeps the notifications that a registry sends: path, Authorization and event."""

    def __init__(self) -> None:
        self.received: list[tuple[str, str | None, dict[str, object]]] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                for event in body["events"]:
                    hook.received.append((self.path, self.headers["Authorization"], event))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def hook() -> Iterator[_Hook]:
    hook = _Hook()
    yield hook
    hook.server.shutdown()
    hook.server.server_close()


def _upload(url: str, repository: str, content: bytes) -> dict[str, object]:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    start = urllib.request.Request(f"{url}/v2/{repository}/blobs/uploads/", method="POST")
    with urllib.request.urlopen(start) as answer:
        place = answer.headers["Location"]
    place = place if place.startswith("http") else url + place
    put = urllib.request.Request(
        f"{place}{'&' if '?' in place else '?'}digest={digest}",
        data=content,
        method="PUT",
        headers={"Content-Type": "application/octet-stream"},
    )
    with urllib.request.urlopen(put) as answer:
        assert answer.status == 201
    return {"mediaType": "application/vnd.docker.container.image.v1+json", "size": len(content), "digest": digest}


def _push(url: str, repository: str, tag: str) -> str:
    config = _upload(url, repository, b"{}")
    layer = _upload(url, repository, b"a layer") | {"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip"}
    media_type = "application/vnd.docker.distribution.manifest.v2+json"
    manifest = json.dumps({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": [layer]}).encode()
    put = urllib.request.Request(
        f"{url}/v2/{repository}/manifests/{tag}", data=manifest, method="PUT", headers={"Content-Type": media_type}
    )
    with urllib.request.urlopen(put) as answer:
        assert answer.status == 201
    return f"sha256:{hashlib.sha256(manifest).hexdigest()}"


@pytest.mark.e2e
@pytest.mark.parametrize("kind", ["docker_registry", "distribution3"])
@pytest.mark.parametrize("form", ["lean", "full"])
def test_a_registry_with_the_pasted_block_sends_its_events_with_the_secret(
    request: pytest.FixtureRequest, asked: Run, hook: _Hook, kind: str, form: str
) -> None:
    block = _notifications(asked, "prod", "--notifications", form, "--hook-url", hook.address)["block"]
    secret = asked("registry", "secret", "prod").stdout.strip()
    registry = request.getfixturevalue(kind)(pasted=block)
    digest = _push(registry.url, "team/app", "1.0")
    servers.wait_until(
        lambda: any(event["target"].get("tag") == "1.0" for _, _, event in hook.received),  # type: ignore[attr-defined]
        what="the notification of the push",
    )
    assert {(path, header) for path, header, _ in hook.received} == {("/hooks/prod", f"Bearer {secret}")}
    targets = [event["target"] for _, _, event in hook.received]
    blobs = [one for one in targets if one["mediaType"] == "application/octet-stream"]  # type: ignore[index]
    assert len(blobs) == (0 if form == "lean" else 2)
    pushed = next(one for one in targets if one.get("tag") == "1.0")  # type: ignore[attr-defined]
    assert pushed["digest"] == digest  # type: ignore[index]
    assert len(pushed["references"]) == 2  # type: ignore[index]
