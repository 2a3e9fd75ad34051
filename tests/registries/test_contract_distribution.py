"""The distribution connector keeps the contract of every connector."""

from __future__ import annotations

import pytest

from regwarden.registries.client.credentials import Anonymous, Basic
from regwarden.registries.client.limits import Limits
from regwarden.registries.client.settings import ClientSettings
from regwarden.registries.distribution.connector import open_connector

pytest.register_assert_rewrite("regwarden.testing.connector_contract")

from regwarden.testing.connector_contract import ConnectorContract, MakeConnector  # noqa: E402  rewritten first


class TestDistributionConnector(ConnectorContract):
    @pytest.fixture
    def make_connector(self) -> MakeConnector:
        async def make(url: str, *, user: str = "", password: str = "", use_digest_auth: bool = False):
            credentials = Basic(user, password) if user else Anonymous()
            settings = ClientSettings(url, credentials=credentials, use_digest_auth=use_digest_auth)
            return open_connector(settings, Limits(page_size=40, retry_wait_seconds=0.1))

        return make
