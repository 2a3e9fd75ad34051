"""What a crawl leaves at a real registry: its notifications are received and read."""

from __future__ import annotations

import json
import tarfile
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.crawling import open_inventory

pytestmark = pytest.mark.e2e

DATA = Path(__file__).resolve().parent.parent / "data" / "registry"


class Receiver:
    """Takes notifications; ``events`` are (action, method, user agent) in the order of arrival."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, str]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                for event in body["events"]:
                    request = event["request"]
                    receiver.events.append((event["action"], request["method"], request["useragent"]))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/"

    def settled(self) -> list[tuple[str, str, str]]:
        """The events so far, once no more have come for half a second."""
        count = -1
        while count != len(self.events):
            count = len(self.events)
            time.sleep(0.5)
        return list(self.events)


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()


@pytest.fixture(params=["docker_registry", "distribution3"])
def server(request, tmp_path, receiver):
    root = tmp_path / "recorded"
    with tarfile.open(DATA / "root.tar.gz") as archive:
        archive.extractall(root, filter="data")
    return request.getfixturevalue(request.param)(root=root, notify=[receiver.url])


async def test_a_second_crawl_leaves_no_event_and_says_304_to_every_tag(server, receiver):
    async with open_inventory(server.url) as inventory:
        await inventory.crawl()
        first = receiver.settled()
        assert first, "the first crawl has to read: its events show that the receiver works"
        assert {agent.split("/")[0] for _, _, agent in first} == {"regwarden"}
        assert {action for action, _, _ in first} == {"pull"}
        log_start = len(server.access_log())
        report = await inventory.crawl()
        assert receiver.settled() == first
    assert report.certificate.manifest_body_count == 0
    statuses = Counter(
        line.split('"')[2].split()[0] for line in server.access_log()[log_start:] if "/manifests/" in line
    )
    assert statuses == {"304": 53, "404": 1}, "one tag of the recorded registry leads nowhere"


async def test_a_crawl_writes_nothing_to_the_registry(server, receiver, tmp_path):
    def snapshot() -> dict[str, int]:
        return {str(path): path.stat().st_mtime_ns for path in server.root.rglob("*") if path.is_file()}

    before = snapshot()
    async with open_inventory(server.url) as inventory:
        await inventory.crawl()
        await inventory.crawl(verify=True, verify_blobs=True)
    assert snapshot() == before
    methods = {line.split('"')[1].split()[0] for line in server.access_log()}
    assert methods <= {"GET", "HEAD"}
