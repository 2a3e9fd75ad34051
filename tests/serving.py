"""`regwarden serve` as a process of its own, on free ports, as users start it."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from regwarden.store.database import Access, Database, open_database
from regwarden.store.hook_secrets import load_hook_secrets

DATA = Path(__file__).parent / "data" / "notifications"
START_SECONDS = 60.0


@dataclass
class Service:
    """A running service and what it has said."""

    process: subprocess.Popen[str]
    database_url: str
    lines: list[str] = field(default_factory=list)

    def addresses(self, words: str = "listening on") -> list[str]:
        return [line.partition(f"{words} ")[2] for line in self.lines if line.startswith(f"{words} ")]

    @property
    def port(self) -> int:
        return int(next(a for a in self.addresses() if a.startswith("http")).rpartition(":")[2])

    def reader(self) -> Database:
        return open_database(self.database_url, access=Access.READ)

    def secret(self, registry: str) -> str:
        with self.reader() as database:
            return database.read_now(load_hook_secrets)[registry][0]

    def ask(self, method: str, path: str, body: object = None, token: str = "") -> tuple[int, Any]:
        """Status and answer of one request to the main listener; decoded where it is JSON."""
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            content = answer.read()
        is_json = "json" in answer.headers.get("Content-Type", "") and content
        return answer.status, json.loads(content) if is_json else content

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=30)


@contextmanager
def running_service(
    directory: Path,
    configuration: str,
    *arguments: str,
    database_url: str = "",
    wait: bool = True,
    program: Sequence[str] = ("-m", "regwarden"),
    has_api: bool = True,
) -> Iterator[Service]:
    """Start it with this configuration file; it is stopped at the end if it still runs.

    ``program`` is what Python runs in place of the command itself. Without the API it starts in two thirds of the time.
    """
    file = directory / "regwarden.toml"
    file.write_text(configuration)
    url = database_url or f"sqlite:///{directory / 'inventory.sqlite3'}"
    command = [sys.executable, *program, "serve", "--config", str(file), "--database", url, *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("REGWARDEN_", "REGISTRY"))}
    if not has_api:
        environment["REGWARDEN_SERVER_API_ENABLED"] = "false"
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    service = Service(process, url)
    reading = threading.Thread(target=_read, args=(service,))
    reading.start()
    try:
        if wait:
            wait_for(lambda: any(line.startswith("notifications:") for line in service.lines), process)
        yield service
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        reading.join()
        assert process.stderr is not None
        process.stderr.close()


hooks_only = partial(running_service, has_api=False)


def wait_for(condition: Any, process: subprocess.Popen[str] | None = None, seconds: float = START_SECONDS) -> None:
    """Return when ``condition()`` is true; fails when that takes too long or the process ends before."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        assert process is None or process.poll() is None, "the service has ended"
        time.sleep(0.02)


def recorded_bodies(capture: str, version: str = "3.1.1") -> list[bytes]:
    """The bodies that a registry sent, byte by byte."""
    for line in (DATA / f"distribution-{version}.jsonl").read_text().splitlines():
        recording = json.loads(line)
        if recording["capture"] == capture:
            return [json.dumps(body, indent=3, ensure_ascii=False).encode() for body in recording["bodies"]]
    raise AssertionError(f"there is no recording {capture}")


def _read(service: Service) -> None:
    assert service.process.stderr is not None
    for line in service.process.stderr:
        service.lines.append(re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip("\n"))
