"""Is this the registry of our GitLab, does it accept us, and what can it do? Questions that change nothing."""

from __future__ import annotations

from typing import Final

from yarl import URL

from regwarden.core.projects import Features
from regwarden.errors import RegistryDenied, RegistryError, RegistryProtocolError
from regwarden.registries.api import Ability, Capabilities, Ping
from regwarden.registries.client.challenges import find_challenge, parse_challenges
from regwarden.registries.client.client import RegistryClient
from regwarden.registries.client.diagnostics import looks_like_registry
from regwarden.registries.client.transport import Call, parse_http_date
from regwarden.registries.distribution import probes
from regwarden.registries.distribution.catalog import CATALOG_SCOPE
from regwarden.registries.gitlab.features import Found

_SUBJECT: Final = "the registry's /v2/"
_IN_WORDS: Final = {
    Features.DATABASE: "metadata database on",
    Features.FILES: "metadata database off",
}


async def ping(client: RegistryClient, gitlab_url: str, *, is_anonymous: bool) -> Ping:
    """``GET /v2/``, with a token that grants nothing; whoever has no credentials gets none, so asks without.

    Then a challenge that names our GitLab is answer enough. Raises as ``Connector.ping``.
    """
    if not is_anonymous:
        return await probes.ping(client)
    answer = await client.transport.exchange(Call("GET", client.url(""), _SUBJECT, client.limits.error_bytes))
    date = parse_http_date(answer.headers.get("Date", ""))
    if answer.status == 200 and looks_like_registry(answer):
        return Ping(is_authenticated=False, date=date)
    if answer.status != 401:
        raise client.error(answer, _SUBJECT)
    challenge = find_challenge(parse_challenges(answer.challenges), "bearer")
    if challenge is None or not _is_of(challenge.get("realm"), gitlab_url):
        raise RegistryProtocolError(
            f"{client.settings.host} does not take tokens of {URL(gitlab_url).host_port_subcomponent}",
            hint="Check url, the registry's address, and gitlab_url, GitLab's own.",
            code="not-its-registry",
            status=answer.status,
        )
    return Ping(is_authenticated=False, date=date)


async def can_list_catalog(client: RegistryClient) -> bool | None:
    """Whether the catalog is granted and answers; ``None`` where that cannot be known now."""
    call = Call("GET", client.url("_catalog", {"n": "1"}), "the catalog", client.limits.page_bytes, CATALOG_SCOPE)
    try:
        answer = await client.send(call)
    except RegistryDenied as error:
        if error.code == "login-failed":
            raise
        return False
    except RegistryError:
        return None
    return True if answer.status == 200 else False if answer.status in {403, 404, 405} else None


def capabilities(found: Found, *, has_catalog: bool | None, referrers: Ability) -> Capabilities:
    """What the registry can do, as far as reading tells; ``referrers`` is what their API said, if it was asked.

    GitLab's own registry has none: there they stand in the listings of the metadata database.
    """
    catalog = {True: Ability.SUPPORTED, False: Ability.UNSUPPORTED, None: Ability.UNKNOWN}[has_catalog]
    is_known = found.features in {Features.DATABASE, Features.FILES}
    return Capabilities(
        catalog=catalog,
        referrers=Ability.UNSUPPORTED if is_known else referrers,
        token_auth=Ability.SUPPORTED,
        server=server_words(found),
    )


def server_words(found: Found) -> str:
    """The registry in words."""
    version = f" {found.version}" if found.version else ""
    if found.features in _IN_WORDS:
        return f"GitLab's registry{version}, {_IN_WORDS[found.features]}"
    if found.features is Features.PLAIN:
        return "a registry that takes GitLab's tokens"
    return f"GitLab's registry{version}, of unknown abilities" if version else ""


def _is_of(realm: str, gitlab_url: str) -> bool:
    try:
        return URL(realm).origin() == URL(gitlab_url).origin()
    except ValueError:
        return False
