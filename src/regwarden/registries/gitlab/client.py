"""What does a connector for a GitLab talk through? The registry's client and GitLab's API, over one transport."""

from __future__ import annotations

from dataclasses import dataclass, replace

from yarl import URL

from regwarden.registries.api import Traffic
from regwarden.registries.client.client import RegistryClient
from regwarden.registries.client.credentials import Basic
from regwarden.registries.client.limits import Limits
from regwarden.registries.client.settings import ClientSettings
from regwarden.registries.client.tokens import basic_header
from regwarden.registries.client.transport import Transport
from regwarden.registries.gitlab.login import Login, key_of
from regwarden.registries.gitlab.rest import GitLabApi
from regwarden.registries.gitlab.tokens import GitLabTokens


@dataclass(frozen=True, slots=True)
class GitLabClient:
    """Both ways to one GitLab: they share connections, limits, counters, and what became of the login."""

    registry: RegistryClient
    tokens: GitLabTokens
    api: GitLabApi
    login: Login

    @property
    def traffic(self) -> Traffic:
        """Counters since the client was made."""
        return self.registry.traffic

    async def close(self) -> None:
        """End all connections."""
        await self.registry.close()


def open_client(
    settings: ClientSettings, gitlab_url: str, *, api_token: str = "", limits: Limits | None = None
) -> GitLabClient:
    """A client for the registry of ``settings`` and the GitLab at ``gitlab_url``; nothing is sent before a question.

    ``api_token`` is the token for GitLab's API, where it is not the password. GitLab itself may issue tokens.
    """
    host = URL(gitlab_url)
    settings = replace(settings, token_hosts=(*settings.token_hosts, f"{host.host_subcomponent}:{host.port}"))
    login = Login(key_of(gitlab_url, settings.credentials))
    made: list[GitLabTokens] = []

    def make_tokens(own: ClientSettings, transport: Transport) -> GitLabTokens:
        if isinstance(own.credentials, Basic):
            transport.redact.hide(basic_header(own.credentials).removeprefix("Basic "))
        # Whether a token server is the right one is measured by GitLab's address, not by the registry's.
        made.append(GitLabTokens(replace(own, url=gitlab_url), transport, login))
        return made[0]

    registry = RegistryClient(settings, limits or Limits(), make_tokens)
    api = GitLabApi(gitlab_url, settings.credentials, registry.transport, token=api_token, login=login)
    return GitLabClient(registry, made[0], api, login)
