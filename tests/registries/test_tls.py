"""Do certificates work, and does each TLS failure give one clear sentence that names the setting?"""

from __future__ import annotations

from pathlib import Path

import pytest

from regwarden.errors import InputError, RegistryError, RegistryProtocolError, RegistryUnreachable
from regwarden.registries.client.credentials import Basic
from regwarden.testing.certificates import Certificates, make_certificates
from regwarden.testing.content import Content
from regwarden.testing.scripted import ScriptedRegistry
from regwarden.testing.scripted_replies import challenge_reply, json_reply
from regwarden.testing.server import Listen, SampleRegistry
from tests import servers
from tests.registries.conftest import Connect


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    servers.require_binary("openssl")
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def _listen(certificates: Certificates, *, needs_client_certificate: bool = False) -> Listen:
    return Listen(tls=certificates.server_context(needs_client_certificate=needs_client_certificate))


async def test_an_own_authority_is_trusted_when_configured(connect: Connect, certificates: Certificates) -> None:
    async with SampleRegistry(Content(), listen=_listen(certificates)) as registry:
        await connect(registry.url, ca_bundle=certificates.authority).ping()


async def test_an_unknown_authority_is_refused_and_the_setting_named(
    connect: Connect, certificates: Certificates
) -> None:
    async with SampleRegistry(Content(), listen=_listen(certificates)) as registry:
        with pytest.raises(RegistryUnreachable, match="no secure connection") as caught:
            await connect(registry.url).ping()
    assert "ca_bundle" in caught.value.hint
    assert caught.value.code == "registry-tls"


async def test_verification_can_be_switched_off(connect: Connect, certificates: Certificates) -> None:
    async with SampleRegistry(Content(), listen=_listen(certificates)) as registry:
        await connect(registry.url, verify_tls=False).ping()


async def test_a_certificate_for_another_name_is_refused(connect: Connect, certificates: Certificates) -> None:
    listen = Listen(host="127.0.0.2", tls=certificates.server_context())
    async with SampleRegistry(Content(), listen=listen) as registry:
        with pytest.raises(RegistryUnreachable, match="mismatch") as caught:
            await connect(registry.url, ca_bundle=certificates.authority).ping()
    assert "host name" in caught.value.hint


async def test_a_client_certificate_opens_the_door(connect: Connect, certificates: Certificates) -> None:
    async with SampleRegistry(Content(), listen=_listen(certificates, needs_client_certificate=True)) as registry:
        connector = connect(
            registry.url,
            ca_bundle=certificates.authority,
            client_certificate=certificates.client,
            client_key=certificates.client_key,
        )
        await connector.ping()


async def test_a_missing_client_certificate_is_said(connect: Connect, certificates: Certificates) -> None:
    async with SampleRegistry(Content(), listen=_listen(certificates, needs_client_certificate=True)) as registry:
        with pytest.raises(RegistryUnreachable) as caught:
            await connect(registry.url, ca_bundle=certificates.authority).ping()
    assert "client_certificate" in caught.value.hint


async def test_the_client_certificate_is_not_shown_to_a_token_server_elsewhere(
    connect: Connect, certificates: Certificates
) -> None:
    demanding = certificates.server_context(needs_client_certificate=True)
    async with (
        ScriptedRegistry(tls=certificates.server_context()) as registry,
        ScriptedRegistry(tls=demanding) as tokens,
    ):
        realm = f"{tokens.url.replace('127.0.0.1', 'localhost')}/token"
        registry.expect("GET", "/v2/", challenge_reply(f'Bearer realm="{realm}"'))
        connector = connect(
            registry.url,
            credentials=Basic("ann", "pw"),
            ca_bundle=certificates.authority,
            client_certificate=certificates.client,
            client_key=certificates.client_key,
            token_hosts=("localhost",),
        )
        with pytest.raises(RegistryUnreachable):
            await connector.ping()
        assert tokens.requests == []


async def test_https_to_a_plain_port_is_said(connect: Connect) -> None:
    async with SampleRegistry(Content()) as registry:
        with pytest.raises(RegistryUnreachable) as caught:
            await connect(registry.url.replace("http:", "https:")).ping()
    assert "http://" in caught.value.hint


async def test_http_to_a_tls_port_is_said(connect: Connect, certificates: Certificates) -> None:
    async with SampleRegistry(Content(), listen=_listen(certificates)) as registry:
        with pytest.raises(RegistryError) as caught:
            await connect(registry.url.replace("https:", "http:")).ping()
    assert caught.value.hint


async def test_an_encrypted_registry_cannot_send_us_to_an_unencrypted_token_server(
    connect: Connect, certificates: Certificates
) -> None:
    async with ScriptedRegistry(tls=certificates.server_context()) as registry, ScriptedRegistry() as tokens:
        registry.expect("GET", "/v2/", challenge_reply(f'Bearer realm="{tokens.url}/token"'))
        connector = connect(registry.url, credentials=Basic("ann", "pw"), ca_bundle=certificates.authority)
        with pytest.raises(RegistryProtocolError, match="unencrypted"):
            await connector.ping()


@pytest.mark.parametrize("field", ["ca_bundle", "client_certificate", "client_key"])
@pytest.mark.parametrize("content", [None, "not a certificate"])
async def test_files_that_cannot_be_used_are_input_errors(
    connect: Connect, tmp_path: Path, field: str, content: str | None
) -> None:
    path = tmp_path / "file.pem"
    if content is not None:
        path.write_text(content, encoding="ascii")
    with pytest.raises(InputError) as caught:
        await connect("https://127.0.0.1:9", **{field: path}).ping()
    assert caught.value.code == "bad-tls-files"


async def test_json_over_tls_is_read(connect: Connect, certificates: Certificates) -> None:
    async with ScriptedRegistry(tls=certificates.server_context()) as registry:
        registry.expect("GET", "/v2/a/tags/list?n=1000", json_reply({"tags": ["t"]}))
        assert (await connect(registry.url, ca_bundle=certificates.authority).list_tags("a")).tags == ("t",)
