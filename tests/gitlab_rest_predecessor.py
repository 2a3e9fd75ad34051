"""gitlab-registry-usage-rest itself, as its users ran it, for comparisons; and the part of GitLab that it asks.

A Python that has it: `python -m venv VENV`, then `VENV/bin/pip install gitlab-registry-usage-rest==0.3.3 Flask==2.0.3
Werkzeug==2.0.3 Flask-JWT-Extended==4.3.1 "setuptools<70"`: the last versions with which it works. It is found by
REGWARDEN_GITLAB_REST_PYTHON=VENV/bin/python; without it the comparisons are skipped.
"""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests import servers
from tests.fixtures.directory import PEOPLE, Directory
from tests.fixtures.distribution_servers import RegistryServer

VARIABLE = "REGWARDEN_GITLAB_REST_PYTHON"
CONFIGURATION = """\
[general]
socket_host = 127.0.0.1
socket_port = {port}
server_prefix = {prefix}
[ldap]
host = 127.0.0.1:{ldap_port}
base_dn = {people}
valid_gid = 5000
[jwt]
secret_key = a-secret-key-of-the-predecessor-alone
[registry]
gitlab_base_url = {gitlab}/
registry_base_url = {registry}/
username = reader
access_token = access-token-of-the-reader
"""


def find_predecessor() -> Path:
    """The Python that has it; without one the test, or the whole module, is skipped."""
    named = os.environ.get(VARIABLE, "")
    if not named:
        reason = f"gitlab-registry-usage-rest is not at hand: set {VARIABLE}, see tests/gitlab_rest_predecessor.py"
        pytest.skip(reason, allow_module_level=True)
    return Path(named)


class _Issuer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'{"token": "anything"}' if self.path.startswith("/jwt/auth?") else b"{}"
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def token_issuer() -> Iterator[str]:
    """GitLab's endpoint for tokens of the registry, at this address; the registry here takes any."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Issuer) as server:
        running = threading.Thread(target=server.serve_forever)
        running.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            running.join()


def write_configuration(
    folder: Path, registry: RegistryServer, gitlab: str, directory: Directory, *, prefix: str = "/"
) -> tuple[Path, int]:
    """Its configuration file, and the port on which it will listen."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    file = folder / "predecessor.conf"
    file.write_text(
        CONFIGURATION.format(
            port=port,
            prefix=prefix,
            ldap_port=directory.tls_port,
            people=PEOPLE,
            gitlab=gitlab,
            registry=registry.url,
        )
    )
    return file, port


@contextmanager
def running_predecessor(configuration: Path, port: int) -> Iterator[str]:
    """It, at this address; it listens when its first crawl is done."""
    command = [str(find_predecessor()), "-m", "gitlab_registry_usage_rest", "-c", str(configuration)]
    with (configuration.parent / "predecessor.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        servers.wait_until(lambda: _listens(process, port), what="gitlab-registry-usage-rest to listen")
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()  # its thread for refreshing keeps it from ending
        process.wait()


def _listens(process: subprocess.Popen[bytes], port: int) -> bool:
    if process.poll() is not None:
        pytest.fail("gitlab-registry-usage-rest has ended: see predecessor.log", pytrace=False)
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
