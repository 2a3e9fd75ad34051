"""From the predecessor's configuration file to its clients being served: import, service, sign-in, and its end."""

from __future__ import annotations

import base64
import http.client
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from regwarden.core.gitlab_rest_settings import import_gitlab_rest_settings
from tests.fixtures.directory import ANONYMOUS, PASSWORD, PEOPLE, StartDirectory
from tests.sample_inventory import run_cli, small_registry
from tests.serving import running_service, wait_for

pytestmark = pytest.mark.e2e

MOUNT = "/compat/gitlab-registry-usage-rest"
OLD = """\
[general]
server_prefix = /usage/
[ldap]
host = 127.0.0.1:{port}
base_dn = {people}
valid_gid = 5000
[registry]
registry_base_url = {registry}/
gitlab_base_url = http://127.0.0.1/
"""


def ask(address: str, path: str, authorization: str) -> tuple[int, Any]:
    with closing(http.client.HTTPConnection(address, timeout=30)) as connection:
        connection.request("GET", path, headers={"Authorization": authorization})
        answer = connection.getresponse()
        body = answer.read()
        return answer.status, json.loads(body) if body.startswith(b"{") else body


def test_an_imported_configuration_serves_its_clients(tmp_path: Path, start_directory: StartDirectory) -> None:
    directory = start_directory(ANONYMOUS)
    with small_registry() as registry:
        old = OLD.format(port=directory.tls_port, people=PEOPLE, registry=registry.url)
        imported = import_gitlab_rest_settings(old).document
        for text, changed in (
            ("127.0.0.1:5000", "127.0.0.1:0"),
            ("/etc/regwarden/registry-password", str(tmp_path / "password")),
            # This registry has no GitLab.
            ('kind = "gitlab"\ngitlab_url = "http://127.0.0.1"', ""),
            ("[ldap]", f'[ldap]\nca_bundle = "{directory.folder}/ca.crt"'),
            ("[compat.gitlab_registry_usage_rest]", "[compat.gitlab_registry_usage_rest]\nenabled = true"),
        ):
            imported = imported.replace(text, changed)
        (tmp_path / "password").write_text("anything")
        with running_service(tmp_path, f'{imported}\n[server]\nlisten = ["127.0.0.1:0"]\n') as service:
            own = service.addresses("listening as gitlab-registry-usage-rest on")[0].removeprefix("http://")
            basic = base64.b64encode(f"alice:{PASSWORD}".encode()).decode()
            status, answer = ask(own, "/usage/auth_token", f"Basic {basic}")
            assert status == 200
            bearer = f"Bearer {answer['auth_token']}"
            wait_for(lambda: ask(own, "/usage/repositories/team%2Fapp", bearer)[1].get("size"))
            sizes = ask(own, "/usage/repositories/team%2Fapp", bearer)
            assert ask(f"127.0.0.1:{service.port}", f"{MOUNT}/images/team/app", bearer) == sizes
            everything = ask(own, "/usage/repositories?embed=true&links=true", bearer)[1]
            assert [one["name"] for one in everything["_embedded"]["items"]] == ["team/app", "team/web"]
            assert everything["_links"]["self"]["href"] == "/usage/repositories"
            assert ask(f"127.0.0.1:{service.port}", "/api/v1/registries", bearer)[0] == 401
            guest = base64.b64encode(f"guest:{PASSWORD}".encode()).decode()  # of another group
            assert ask(own, "/usage/auth_token", f"Basic {guest}") == (401, b"Unauthorized Access")
            environment = {
                "REGWARDEN_DATABASE": service.database_url,
                "REGWARDEN_CONFIG": str(tmp_path / "regwarden.toml"),
            }
            listed = run_cli(tmp_path, "token", "list", "--sessions", "--output", "json", **environment)
            (session,) = json.loads(listed.stdout)
            ended = run_cli(tmp_path, "token", "revoke", "--session", session["id"], **environment)
            assert ended.exit_code == 0, ended.stderr
            wait_for(lambda: ask(own, "/usage/repositories", bearer) == (401, {"msg": "Token has been revoked"}))
