"""Which identity providers are there, for people and for CI jobs, and which of them answers for a token?"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager

from regwarden.core.oidc_claims import Refused
from regwarden.core.role_rules import WrittenRule, parse_rule
from regwarden.errors import NotFound
from regwarden.identity.assertions import read_unverified
from regwarden.identity.oidc import OidcProvider, not_accepted
from regwarden.settings_access import OidcSettings


class Providers(Mapping[str, OidcProvider]):
    """The configured identity providers by name."""

    def __init__(self, providers: Mapping[str, OidcProvider]) -> None:
        self._providers = providers

    def __getitem__(self, name: str) -> OidcProvider:
        return self._providers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._providers)

    def __len__(self) -> int:
        return len(self._providers)

    def for_people(self, name: str) -> OidcProvider:
        """The provider with which people sign in; raises ``NotFound``."""
        found = self._providers.get(name)
        if found is None or not found.settings.client_id:
            raise NotFound("there is no such identity provider", code="unknown-provider")
        return found

    def for_assertion(self, token: str, name: str = "") -> OidcProvider:
        """The provider that answers for the ID token of a CI job; ``name`` if it is said. Raises ``Unauthorized``."""
        try:
            shown = read_unverified(token)
        except Refused as refused:
            raise not_accepted("", refused) from None
        for found in self._providers.values():
            settings = found.settings
            is_its_own = shown.issuer == settings.issuer and settings.audience in shown.audiences
            if settings.audience and is_its_own and name in {"", settings.name}:
                return found
        raise not_accepted(name, Refused("no provider of the settings has its issuer and its audience"))


@asynccontextmanager
async def open_providers(settings: Sequence[OidcSettings], rules: Sequence[WrittenRule]) -> AsyncIterator[Providers]:
    """The identity providers while the block lasts; none is asked before somebody signs in.

    ``rules`` say which claims matter. Raises ``InputError`` for rules that cannot be understood, and for
    authorities that cannot be read.
    """
    names = frozenset(name for rule in rules for name, _ in parse_rule(rule).claims)
    providers = Providers({one.name: OidcProvider(one, names) for one in settings})
    try:
        yield providers
    finally:
        for provider in providers.values():
            await provider.close()
