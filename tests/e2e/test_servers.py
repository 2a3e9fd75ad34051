"""Do the servers that the other tests stand on start, answer, keep their address and ask for the password?"""

from __future__ import annotations

import base64
import urllib.error
import urllib.request

import psycopg
import pytest

from tests import servers
from tests.fixtures.distribution_servers import PASSWORD, USERNAME

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("kind", ["docker_registry", "distribution3"])
def test_a_registry_keeps_its_address_over_a_restart_and_logs_requests(kind, request):
    registry = request.getfixturevalue(kind)()
    before = registry.url
    registry.stop()
    assert not registry.is_running
    registry.start()
    assert registry.url == before
    with urllib.request.urlopen(f"{registry.url}/v2/_catalog?n=7") as answer:
        assert answer.status == 200
    assert any("/v2/_catalog?n=7" in line for line in registry.access_log())


@pytest.mark.parametrize("kind", ["docker_registry", "distribution3"])
def test_a_registry_with_a_password_refuses_everybody_else(kind, request):
    registry = request.getfixturevalue(kind)(with_password=True)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{registry.url}/v2/")
    assert refused.value.code == 401
    refused.value.close()
    token = base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()
    asked = urllib.request.Request(f"{registry.url}/v2/", headers={"Authorization": f"Basic {token}"})
    with urllib.request.urlopen(asked) as answer:
        assert answer.status == 200


def test_every_test_gets_an_empty_postgresql_database(postgresql_url, postgresql_server):
    with psycopg.connect(postgresql_url) as connection:
        connection.execute("CREATE TABLE seen (id int)")
    other = postgresql_server.create_database()
    with psycopg.connect(postgresql_server.url(other)) as connection:
        assert connection.execute("SELECT to_regclass('seen')").fetchone() == (None,)
    postgresql_server.drop_database(other)


def test_a_missing_server_is_a_skip_that_names_the_command_and_a_failure_in_ci(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(servers, "IS_CI", False)
    with pytest.raises(pytest.skip.Exception, match="make servers"):
        servers.require_binary("docker-registry")
    monkeypatch.setattr(servers, "IS_CI", True)
    with pytest.raises(pytest.fail.Exception, match="make servers"):
        servers.require_binary("docker-registry")
