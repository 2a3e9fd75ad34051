"""The connector for a GitLab keeps the contract of every connector, at a registry that is behind none."""

from __future__ import annotations

import pytest

from regwarden.registries.client.credentials import Anonymous, Basic
from regwarden.registries.client.limits import Limits
from regwarden.registries.client.settings import ClientSettings
from regwarden.registries.gitlab.connector import open_gitlab
from regwarden.registries.gitlab.settings import GitLabSettings

_LIMITS = Limits(page_size=40, retry_wait_seconds=0.1)

pytest.register_assert_rewrite("regwarden.testing.connector_contract")

from regwarden.testing.authentication import Auth, BearerAuth  # noqa: E402  as below
from regwarden.testing.connector_contract import USERS, ConnectorContract, MakeConnector  # noqa: E402  rewritten first
from regwarden.testing.content import Content  # noqa: E402  as above
from regwarden.testing.images import image  # noqa: E402  as above
from regwarden.testing.server import SampleRegistry  # noqa: E402  as above


class TestGitLabConnector(ConnectorContract):
    @pytest.fixture
    def make_connector(self) -> MakeConnector:
        async def make(url: str, *, user: str = "", password: str = "", use_digest_auth: bool = False):
            # Nobody without credentials gets the catalog of a GitLab, so it is not even asked for then.
            credentials = Basic(user or "regwarden", password or "not asked for")
            settings = ClientSettings(url, credentials=credentials, use_digest_auth=use_digest_auth)
            return open_gitlab(GitLabSettings(settings, url), _LIMITS)

        return make

    # Only tokens: a registry that asks for the password itself does not get it (see test_hostile_gitlab.py).
    @pytest.mark.parametrize(
        "auth", [BearerAuth(USERS), BearerAuth(USERS, token_uses=2)], ids=["bearer", "bearer-short-lived"]
    )
    async def test_right_credentials_open_and_wrong_ones_are_denied(
        self, make_connector: MakeConnector, auth: Auth
    ) -> None:
        await super().test_right_credentials_open_and_wrong_ones_are_denied(make_connector, auth)

    async def test_anonymous_reading_works_with_a_token_server(self, make_connector: MakeConnector) -> None:
        content = Content()
        content.repository("app").add(image([]), "1.0")
        async with SampleRegistry(content, auth=BearerAuth(has_anonymous_pull=True)) as registry:
            settings = GitLabSettings(ClientSettings(registry.url, credentials=Anonymous()), registry.url)
            connector = open_gitlab(settings, _LIMITS)
            try:
                assert (await connector.list_tags("app")).tags == ("1.0",)
            finally:
                await connector.close()
