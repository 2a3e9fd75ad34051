"""Is this a registry, does it accept us, and what can it do? Questions that change nothing."""

from __future__ import annotations

import contextlib
from typing import Final

from regwarden.core.oci.digests import Digest
from regwarden.errors import RegistryError, RegistryProtocolError
from regwarden.registries.api import Ability, Capabilities, Ping
from regwarden.registries.client.client import RegistryClient
from regwarden.registries.client.diagnostics import Answer, looks_like_registry
from regwarden.registries.client.paging import parse_catalog_page
from regwarden.registries.client.transport import Call, parse_http_date
from regwarden.registries.distribution.catalog import CATALOG_SCOPE
from regwarden.registries.distribution.referrers import Referrers

_NO_SUCH_DIGEST: Final = Digest("sha256", "0" * 64)
_SHOWN_HEADERS: Final = ("server", "docker-distribution-api-version", "oci-distribution-spec-version", "via")
_MAX_HEADER_LENGTH: Final = 200
_SUBJECT: Final = "the registry's /v2/"
_HINT: Final = "Check the address; the distribution API is expected below /v2/ there."


async def ping(client: RegistryClient) -> Ping:
    """``GET /v2/``: raises ``RegistryProtocolError`` if it is no registry, ``RegistryDenied`` if it refuses us."""
    answer = await client.send(Call("GET", client.url(""), _SUBJECT, client.limits.error_bytes))
    host = client.origin.host_port_subcomponent
    if answer.status == 200 and looks_like_registry(answer):
        return Ping(
            is_authenticated=client.authenticated.has_sent_credentials,
            server=_server(answer),
            headers=_shown_headers(answer),
            date=parse_http_date(answer.headers.get("Date", "")),
        )
    if answer.status in {401, 403}:
        raise client.error(answer, _SUBJECT)
    said = client.transport.redact.diagnose(answer)
    hint = _HINT
    if 300 <= answer.status < 400:
        location = client.transport.redact.clean(answer.headers.get("Location", ""))
        hint = f"It redirects to {location}; use that address." if location else _HINT
    raise RegistryProtocolError(
        f"{host} does not look like a container registry ({answer.status})",
        hint=hint,
        code="not-a-registry",
        status=answer.status,
        diagnostics=said,
    )


async def probe_capabilities(client: RegistryClient, referrers: Referrers) -> Capabilities:
    """Catalog, referrers and token authentication, by reading; a refusal leaves an ability unknown.

    What only a deletion can tell stays unknown. Raises what ``ping`` raises.
    """
    answered = await ping(client)
    catalog, repository = await _catalog(client)
    if repository and referrers.ability is Ability.UNKNOWN:
        with contextlib.suppress(RegistryError):  # a refusal leaves it unknown
            await referrers.list(repository, _NO_SUCH_DIGEST)
    token_auth = Ability.SUPPORTED if client.authenticated.scheme == "bearer" else Ability.UNSUPPORTED
    return Capabilities(catalog=catalog, referrers=referrers.ability, token_auth=token_auth, server=answered.server)


async def _catalog(client: RegistryClient) -> tuple[Ability, str]:
    try:
        url, limit = client.url("_catalog", {"n": "1"}), client.limits.page_bytes
        answer = await client.send(Call("GET", url, "the catalog", limit, scope=CATALOG_SCOPE))
        if answer.status in {404, 405, 501}:
            return Ability.UNSUPPORTED, ""
        if answer.status != 200:
            return Ability.UNKNOWN, ""
        names = parse_catalog_page(answer).names
    except RegistryError:
        return Ability.UNKNOWN, ""
    return Ability.SUPPORTED, names[0] if names else ""


def _server(answer: Answer) -> str:
    for name, value in answer.headers.items():
        if name.lower() == "gitlab-container-registry-version":
            return f"GitLab {value[:_MAX_HEADER_LENGTH]}"
    return answer.headers.get("Server", "")[:_MAX_HEADER_LENGTH]


def _shown_headers(answer: Answer) -> dict[str, str]:
    return {
        name.lower(): value[:_MAX_HEADER_LENGTH]
        for name, value in answer.headers.items()
        if name.lower() in _SHOWN_HEADERS or name.lower().startswith("gitlab-container-registry")
    }
