"""How long does gitlab-registry-usage-rest's interface take for everything it has, and in how much memory?

First workload W (1,000 tags, OCI) on a real docker-registry, crawled; with ``--predecessor PYTHON`` (one that has it:
tests/gitlab_rest_predecessor.py says which versions) the predecessor answers the same request in the same run. Then
1,000 repositories of 100 tags, generated. Each is asked of a process of its own over one kept connection.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import http.client
import json
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from sqlalchemy import insert
from sqlalchemy.engine import Connection
from workload import push_workload

from regwarden import connect
from regwarden.store import schema
from regwarden.store.database import Access, open_database

EVERYTHING = "/repositories?embed=true&links=true"
SECRET = "a-secret-key-of-the-predecessor-alone"
CONFIGURATION = """\
[server]
listen = ["127.0.0.1:0"]
[defaults]
crawl_every = "never"
[[registry]]
name = "w"
url = "{url}"
[compat.gitlab_registry_usage_rest]
listen = "127.0.0.1:0"
"""
PREDECESSOR = """\
[general]
socket_port = {port}
[jwt]
secret_key = {secret}
[registry]
gitlab_base_url = {gitlab}/
registry_base_url = {registry}/
"""
REPOSITORIES, TAGS_EACH = 1_000, 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--predecessor", metavar="PYTHON", help="an interpreter that has gitlab-registry-usage-rest")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, registry(Path(name)) as url:
        push_workload(url, is_oci=True)
        folder, database = Path(name), f"sqlite:///{name}/w.sqlite3"
        (folder / "w.toml").write_text(CONFIGURATION.format(url=url))
        with connect(database, config=folder / "w.toml", environ={}) as inventory:
            inventory.crawl("w")
        with service(folder / "w.toml", database) as (address, token, process):
            ours = report("ours, 1,000 tags", address, token, process, rounds=arguments.rounds)
            report("ours, 1,000 tags, gzip", address, token, process, rounds=arguments.rounds, encoding="gzip")
        if arguments.predecessor:
            with predecessor(folder, url, arguments.predecessor) as (address, token, process):
                theirs = report("gitlab-registry-usage-rest", address, token, process, rounds=arguments.rounds)
            print(f"{'ratio':40}{ours / theirs:10.2f}")
        database = f"sqlite:///{name}/many.sqlite3"
        with open_database(database, access=Access.WRITE, create=True) as opened:
            opened.write_now(fill)
        with service(folder / "w.toml", database) as (address, token, process):
            for encoding in ("identity", "gzip"):
                report(f"ours, 100,000 tags, {encoding}", address, token, process, rounds=3, encoding=encoding)


def report(
    label: str,
    address: str,
    token: str,
    process: subprocess.Popen[str],
    *,
    rounds: int,
    encoding: str = "identity",
) -> float:
    """Ask some times; returns the median of the seconds until all had come."""
    connection = http.client.HTTPConnection(address, timeout=600)
    headers = {"Authorization": f"Bearer {token}", "Accept-Encoding": encoding}
    connection.request("GET", "/repositories", headers=headers)
    connection.getresponse().read()
    before, firsts, totals, size = peak_mib(process), [], [], 0
    for _ in range(rounds):
        started = time.perf_counter()
        connection.request("GET", EVERYTHING, headers=headers)
        answer = connection.getresponse()
        size = len(answer.read(1))
        firsts.append(time.perf_counter() - started)
        while piece := answer.read(1 << 20):
            size += len(piece)
        totals.append(time.perf_counter() - started)
        assert answer.status == 200
    first, total = statistics.median(firsts), statistics.median(totals)
    memory = f"peak {before:.0f} -> {peak_mib(process):.0f} MiB"
    print(
        f"{label:40}{total * 1000:10.1f} ms  first byte {first * 1000:8.1f} ms  {size:11,} bytes  {memory}", flush=True
    )
    return total


def peak_mib(process: subprocess.Popen[str]) -> float:
    """The most memory that a process has had."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]  # always there


def fill(connection: Connection) -> None:
    """1,000 repositories of 100 tags, measured."""
    known = {"first_seen_at": 0, "state": "complete"}
    connection.execute(
        insert(schema.registries).values(
            id=1, name="w", url="http://w", kind="distribution", first_seen_at=0, crawled_at=0
        )
    )
    sizes = {"layer_bytes": 10**9, "disk_bytes": 10**8, "tag_count": TAGS_EACH}
    rows = [
        {"id": n, "registry_id": 1, "name": f"team{n % 50:02d}/app{n:04d}", "catalog_position": n, **known, **sizes}
        for n in range(1, REPOSITORIES + 1)
    ]
    connection.execute(insert(schema.repositories), rows)
    tag = {"first_seen_at": 0, "tagged_at": 0, "state": "ok", "layer_bytes": 123_456_789, "disk_bytes": 1_234_567}
    for n in range(1, REPOSITORIES + 1):
        names = [{"repository_id": n, "name": f"1.{i}.0-build{i * n % 9973}", **tag} for i in range(TAGS_EACH)]
        connection.execute(insert(schema.tags), names)


@contextmanager
def service(configuration: Path, database: str) -> Iterator[tuple[str, str, subprocess.Popen[str]]]:
    """The service, and a token that may read."""
    with connect(database, config=configuration, environ={}) as inventory:
        token = inventory.create_token("bench", roles=["viewer"]).token
    command = [sys.executable, "-m", "regwarden", "serve", "--config", str(configuration), "--database", database]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if found := re.search(r"gitlab-registry-usage-rest on http://(\S+)", line):
                threading.Thread(target=process.stderr.read, daemon=True).start()
                yield found[1], token, process
                break
    finally:
        process.terminate()
        process.wait()


@contextmanager
def predecessor(folder: Path, registry_url: str, python: str) -> Iterator[tuple[str, str, subprocess.Popen[str]]]:
    """gitlab-registry-usage-rest, and a token of its own; it listens when its first crawl is done."""
    with token_issuer() as gitlab:
        port, file = free_port(), folder / "predecessor.conf"
        file.write_text(PREDECESSOR.format(port=port, secret=SECRET, gitlab=gitlab, registry=registry_url))
        command = [python, "-m", "gitlab_registry_usage_rest", "-c", str(file)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True)
        try:
            while socket.socket().connect_ex(("127.0.0.1", port)):
                assert process.poll() is None, "the predecessor has ended"
                time.sleep(0.1)
            time.sleep(10)  # it crawls a second time at once
            yield f"127.0.0.1:{port}", signed_token(), process
        finally:
            process.kill()
            process.wait()


def signed_token() -> str:
    """A token as /auth_token of the predecessor gives them."""
    now = int(time.time())
    claims = {"fresh": False, "iat": now, "jti": "x", "type": "access", "sub": "x", "nbf": now, "exp": now + 3600}
    parts = [base64.urlsafe_b64encode(json.dumps(one).encode()).rstrip(b"=") for one in ({"alg": "HS256"}, claims)]
    signature = hmac.new(SECRET.encode(), b".".join(parts), hashlib.sha256).digest()
    return b".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()


@contextmanager
def token_issuer() -> Iterator[str]:
    class Issuer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b'{"token": "x"}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Issuer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@contextmanager
def registry(folder: Path) -> Iterator[str]:
    port = free_port()
    file = folder / "registry.yml"
    file.write_text(
        f"version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}/storage}}, cache: {{blobdescriptor: inmemory}}}}\n"
    )
    process = subprocess.Popen(["docker-registry", "serve", str(file)], stderr=subprocess.DEVNULL)
    try:
        while socket.socket().connect_ex(("127.0.0.1", port)):
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
