"""Which GitLab, whose token, which projects: everything a connector of this kind needs to know."""

from __future__ import annotations

from dataclasses import dataclass, field

from regwarden.core.projects import Mode
from regwarden.registries.client.credentials import Anonymous
from regwarden.registries.client.settings import ClientSettings


@dataclass(frozen=True, slots=True)
class GitLabSettings:
    """``client`` reaches the registry; its credentials are a token as password, or a user's own password.

    ``gitlab_url`` is ``scheme://host[:port][/prefix]``. ``api_token`` is the token for the REST API where that is
    another one than the password. ``groups`` and ``projects`` are full paths; without any, all is read.
    """

    client: ClientSettings
    gitlab_url: str
    api_token: str = field(default="", repr=False)
    groups: tuple[str, ...] = ()
    projects: tuple[str, ...] = ()

    @property
    def is_anonymous(self) -> bool:
        """Whether the registry is asked without credentials."""
        return isinstance(self.client.credentials, Anonymous)

    @property
    def mode(self) -> Mode:
        """Which projects are looked at."""
        if self.groups:
            return Mode.GROUP
        return Mode.PROJECT if self.projects else Mode.INSTANCE
