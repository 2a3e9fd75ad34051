"""gitlab-registry-usage-rest's own file, imported, serves its clients and its frontend from a GitLab."""

from __future__ import annotations

import base64
import http.client
import json
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from regwarden.testing.content import BuiltManifest
from tests.fixtures.directory import ANONYMOUS, PASSWORD, PEOPLE, StartDirectory
from tests.fixtures.gitlab_servers import StartGitLab
from tests.gitlab_settings import changing_requests, pushing_scopes
from tests.live_registry import picture
from tests.sample_inventory import run_cli
from tests.serving import running_service, wait_for

pytestmark = pytest.mark.e2e

ORIGIN = "http://frontend.example"
OLD = """\
[general]
server_prefix = /
[ldap]
host = 127.0.0.1:{port}
base_dn = {people}
valid_gid = 5000
[registry]
gitlab_base_url = {gitlab}/
registry_base_url = {registry}/
username = root
access_token = {token}
"""


def ask(address: str, path: str, authorization: str) -> tuple[int, Any]:
    with closing(http.client.HTTPConnection(address, timeout=30)) as connection:
        connection.request("GET", path, headers={"Authorization": authorization, "Origin": ORIGIN})
        answer = connection.getresponse()
        body = answer.read()
        assert answer.headers["Access-Control-Allow-Origin"] in ("*", ORIGIN)
        return answer.status, json.loads(body) if body.startswith(b"{") else body


def layer_bytes(built: BuiltManifest) -> int:
    """What the predecessor calls size: layers alone."""
    return sum(blob.size_bytes for blob in built.blobs[1:])


def disk_bytes(*built: BuiltManifest) -> int:
    """Each layer once in the whole registry."""
    return sum({str(blob.digest): blob.size_bytes for one in built for blob in one.blobs[1:]}.values())


def test_clients_of_the_predecessor_are_served_from_gitlab(
    tmp_path: Path, start_gitlab: StartGitLab, start_directory: StartDirectory
) -> None:
    directory, gitlab = start_directory(ANONYMOUS), start_gitlab(mode="plain")
    one, two = picture("one", is_oci=False), picture("two", is_oci=False)
    gitlab.push("team/app", one, "1.0")
    gitlab.push("team/app", two, "2.0")
    gitlab.push("ann/thing", two, "2.0")
    old, new = tmp_path / "old.conf", tmp_path / "new.toml"
    token = gitlab.tokens["admin-read"]
    old.write_text(
        OLD.format(port=directory.tls_port, people=PEOPLE, gitlab=gitlab.url, registry=gitlab.registry_url, token=token)
    )
    run = run_cli(tmp_path, "config", "import", "gitlab-registry-usage-rest", "--output-file", str(new), str(old))
    assert run.exit_code == 0, run.output
    configuration = new.read_text()
    assert token not in configuration
    assert 'kind = "gitlab"' in configuration
    # What the import's own notes tell the user to do, and a port that is free.
    for text, changed in (
        ("127.0.0.1:5000", "127.0.0.1:0"),
        ("/etc/regwarden/registry-password", str(tmp_path / "password")),
        ("[ldap]", f'[ldap]\nca_bundle = "{directory.folder}/ca.crt"'),
    ):
        assert text in configuration
        configuration = configuration.replace(text, changed)
    (tmp_path / "password").write_text(token)
    (tmp_path / "password").chmod(0o600)
    with running_service(tmp_path, f'{configuration}\n[server]\nlisten = ["127.0.0.1:0"]\n') as service:
        address = service.addresses("listening as gitlab-registry-usage-rest on")[0].removeprefix("http://")
        basic = base64.b64encode(f"alice:{PASSWORD}".encode()).decode()
        status, answer = ask(address, "/auth_token", f"Basic {basic}")
        assert status == 200
        bearer = f"Bearer {answer['auth_token']}"
        wait_for(lambda: ask(address, "/repositories/team%2Fapp", bearer)[1].get("size"))
        see_the_interface(address, bearer, one, two)
    assert pushing_scopes(gitlab) == changing_requests(gitlab) == []


def see_the_interface(address: str, bearer: str, one: BuiltManifest, two: BuiltManifest) -> None:
    """What the frontend asks, and what other clients do."""
    everything = ask(address, "/repositories?embed=true&links=true", bearer)[1]
    repositories = {each["name"]: each for each in everything["_embedded"]["items"]}
    assert repositories.keys() == {"team/app", "ann/thing"}
    assert repositories["team/app"]["size"] == layer_bytes(one) + layer_bytes(two)
    assert repositories["ann/thing"]["size"] == layer_bytes(two)
    assert sum(each["disk_size"] for each in repositories.values()) == disk_bytes(one, two)
    for name in repositories:
        place = f"/repositories/{quote(name, safe='')}"
        status, found = ask(address, f"{place}?embed=true&links=true", bearer)
        assert (status, found["name"]) == (200, name)
        for tag in repositories[name]["_embedded"]["related"]["_embedded"]["items"]:
            status, alone = ask(address, f"{place}/tags/{tag['name']}", bearer)
            assert (status, alone["size"]) == (200, layer_bytes(one if tag["name"] == "1.0" else two))
    assert ask(address, "/repositories", "Bearer nothing")[0] in (401, 422)
