"""The Bearer flow against a real registry: Debian's docker-registry, which trusts a token server of the test."""

from __future__ import annotations

import base64
import json
import subprocess
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from regwarden.errors import RegistryDenied
from regwarden.registries.client.credentials import Basic
from tests import ground_truth, servers
from tests.crawling import open_inventory

pytestmark = pytest.mark.e2e

DATA = Path(__file__).resolve().parent.parent / "data" / "registry"
USER = Basic("reader", "correct-horse")


def encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


class TokenServer:
    """Signs what is asked for, for one user, with a certificate that the registry trusts."""

    def __init__(self, folder: Path, lifetime_seconds: int) -> None:
        self.certificate, self.key = folder / "token.crt", folder / "token.key"
        self.lifetime_seconds = lifetime_seconds
        self.scopes: list[list[str]] = []
        openssl = servers.require_binary("openssl")
        self._openssl = openssl
        command: list[str | Path] = [
            openssl,
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=tokens",
        ]
        subprocess.run([*command, "-keyout", self.key, "-out", self.certificate], check=True, capture_output=True)
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                expected = base64.b64encode(f"{USER.username}:{USER.password}".encode()).decode()
                is_known = self.headers.get("Authorization") == f"Basic {expected}"
                scopes = parse_qs(urlsplit(self.path).query).get("scope", [])
                issuer.scopes.append(scopes)
                body = json.dumps({"token": issuer.sign(scopes), "expires_in": issuer.lifetime_seconds}).encode()
                self.send_response(200 if is_known else 401)
                self.send_header("Content-Length", str(len(body) if is_known else 0))
                self.end_headers()
                self.wfile.write(body if is_known else b"")

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/token"

    def sign(self, scopes: list[str]) -> str:
        now = int(time.time())
        access = [
            {"type": kind, "name": name, "actions": actions.split(",")}
            for scope in scopes
            for kind, name, actions in [scope.split(":")]
        ]
        der = "".join(self.certificate.read_text().splitlines()[1:-1])
        header = {"typ": "JWT", "alg": "RS256", "x5c": [der]}
        claims = {
            "iss": "tests",
            "aud": "registry",
            "sub": USER.username,
            "iat": now,
            "nbf": now - 5,
            "exp": now + self.lifetime_seconds,
            "jti": str(len(self.scopes)),
            "access": access,
        }
        signed = f"{encode(json.dumps(header).encode())}.{encode(json.dumps(claims).encode())}"
        signature = subprocess.run(
            [self._openssl, "dgst", "-sha256", "-sign", self.key],
            input=signed.encode(),
            check=True,
            capture_output=True,
        ).stdout
        return f"{signed}.{encode(signature)}"


@pytest.fixture
def tokens(tmp_path):
    issuer = TokenServer(tmp_path, lifetime_seconds=300)
    yield issuer
    issuer.server.shutdown()
    issuer.server.server_close()


@pytest.fixture
def server(docker_registry, tmp_path, tokens):
    root = tmp_path / "recorded"
    with tarfile.open(DATA / "root.tar.gz") as archive:
        archive.extractall(root, filter="data")
    token = {
        "realm": tokens.url,
        "service": "registry",
        "issuer": "tests",
        "rootcertbundle": str(tokens.certificate),
    }
    return docker_registry(root=root, settings={"auth": {"token": token}})


async def test_a_crawl_with_tokens_reads_everything_and_asks_for_no_more_than_to_pull(server, tokens):
    async with open_inventory(server.url, credentials=USER) as inventory:
        report = await inventory.crawl()
        assert report.state == "complete"
        ground_truth.assert_inventory_equals(inventory, json.loads((DATA / "truth.json").read_text()))
    asked = {scope for scopes in tokens.scopes for scope in scopes}
    assert asked
    assert all(scope == "registry:catalog:*" or scope.endswith(":pull") for scope in asked)
    assert len(tokens.scopes) <= 26 + 3, "one token for each repository, one for the catalog"


async def test_a_wrong_password_is_refused_at_once(server):
    async with open_inventory(server.url, credentials=Basic("reader", "wrong")) as inventory:
        with pytest.raises(RegistryDenied):
            await inventory.crawl()
