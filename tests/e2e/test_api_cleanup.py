"""A cleanup by HTTP alone, with the service and a real registry: planned, agreed to by two people, applied, undone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from regwarden.core.access import Grant, Principal, PrincipalKind, Role
from regwarden.service_commands import service_handlers
from regwarden.service_context import ServiceContext
from regwarden.settings_sections import parse_listen_address
from regwarden.settings_sources import load_settings
from regwarden.store.database import Access, open_database
from regwarden.testing.content import BuiltManifest, Content
from regwarden.testing.images import image, image_config, index
from regwarden.web.api.application import build_api
from regwarden.web.api.context import ApiParts
from regwarden.web.listening import bound, serving, shown_address
from tests.fixtures.distribution_servers import RegistryServer, StartRegistry
from tests.gitlab_double.modes import ROOT, find_chosen_mode
from tests.live_registry import packed
from tests.random_registries import RandomRegistry, lay_out, stored_tags
from tests.web.api.conftest import FakeAuthenticator

pytestmark = pytest.mark.e2e

POLICY = """\
apiVersion: retention/v1
kind: Policy
metadata: {name: ci}
scope: {repositories: {include: ["glob:team/**"]}}
delete: [{match: {tags: {any: ["glob:1.*"]}}}]
limits: {min-age: 0s, never-empty: true}
apply: {approval: two}
"""
OTHER = f"{ROOT}other"
WAIVED = ["min-age", "repository-share", "manifest-limit", "inventory-age"]
END_SECONDS = 60.0


def picture(seed: str, platform: str = "linux/amd64") -> BuiltManifest:
    return image([packed("base"), packed(f"only in {seed}")], image_config(platform, labels={"of": seed}))


def build_content() -> Content:
    content = Content()
    going = index([picture("going"), picture("going", "linux/arm64")])
    for name in ("team/app", OTHER):
        content.repository(name).add(picture("old"), "1.0")
        content.repository(name).add(going, "1.1")
        content.repository(name).add(picture("new"), "2.0", "latest")
    return content


@dataclass
class Client:
    """Asks the service over HTTP, as somebody."""

    session: aiohttp.ClientSession
    address: str

    async def ask(self, method: str, path: str, body: Any = None, *, who: str) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {who}"}
        url = self.address + (path if path.startswith("/api") else f"/api/v1{path}")
        async with self.session.request(method, url, json=body, headers=headers) as response:
            content = await response.read()
            is_json = "json" in response.content_type and "ndjson" not in response.content_type
            return response.status, await response.json(content_type=None) if is_json else content

    async def finish(self, path: str, body: Any = None, *, who: str) -> Any:
        """Begin long work; the operation when it has ended."""
        status, begun = await self.ask("POST", path, body or {}, who=who)
        assert status == 202, begun
        place = begun["_links"]["self"]["href"]
        async with asyncio.timeout(END_SECONDS):
            while (found := (await self.ask("GET", place, who=who))[1])["state"] == "running":
                await asyncio.sleep(0.05)
        return found


def people() -> FakeAuthenticator:
    made = FakeAuthenticator()
    for name, role in (("ann", Role.APPROVER), ("bob", Role.APPROVER), ("cleo", Role.CLEANER), ("root", Role.ADMIN)):
        made.principals[name] = Principal(
            id=f"ldap:{name}", name=name, kind=PrincipalKind.DIRECTORY, grants=(Grant(role),)
        )
    return made


@asynccontextmanager
async def service(registry: RegistryServer, folder: Path) -> AsyncIterator[Client]:
    file = folder / "regwarden.toml"
    file.write_text(registry.section("prod"))
    url = f"sqlite:///{folder / 'inventory.sqlite3'}"
    with open_database(url, access=Access.WRITE, create=True) as database:
        loaded = load_settings({}, file=file, database=url)
        handlers = service_handlers(ServiceContext(database, loaded, {}))
        parts = ApiParts(database=database, loaded=loaded, environ={}, authenticator=people(), commands=handlers)
        with bound(parse_listen_address("127.0.0.1:0")) as listeners:
            async with serving(build_api(parts), listeners, None), aiohttp.ClientSession() as session:
                yield Client(session, shown_address(listeners[0], is_tls=False))
                await parts.operations.close()


async def test_planned_agreed_to_applied_and_taken_back(docker_registry: StartRegistry, tmp_path: Path) -> None:
    root = tmp_path / "storage"
    lay_out(RandomRegistry(build_content(), ()), root)
    server = docker_registry(root=root)
    before = {name: stored_tags(root, name) for name in ("team/app", OTHER)}
    async with service(server, tmp_path) as client:
        assert (await client.finish("/crawls", {"registry": "prod"}, who="root"))["state"] == "done"
        made = await client.finish("/plans", {"policies": {"ci.yaml": POLICY}, "waive": WAIVED}, who="cleo")
        assert made["state"] == "done", made
        plan = made["_links"]["plan"]["href"]
        status, shown = await client.ask("GET", plan, who="ann")
        assert (status, shown["tag_count"], shown["needed_approval_count"]) == (200, 2, 2)
        steps = (await client.ask("GET", f"{plan}/steps", who="ann"))[1]["_embedded"]["items"]
        assert {one["repository"] for one in steps} == {"team/app"}

        refused = await client.finish(f"{plan}/apply", {"waive": ["no-live-events"]}, who="cleo")
        assert refused["error"]["code"] == "plan-approvals"
        fingerprint = {"fingerprint": shown["fingerprint"]}
        for who, missing in (("ann", 1), ("ann", 1), ("bob", 0)):
            status, agreed = await client.ask("POST", f"{plan}/approve", fingerprint, who=who)
            assert (status, agreed["missing_approval_count"]) == (200, missing)
        assert stored_tags(root, "team/app") == before["team/app"]

        applied = await client.finish(f"{plan}/apply", {**fingerprint, "waive": ["no-live-events"]}, who="cleo")
        assert (applied["state"], applied["result"]["state"]) == ("done", "applied"), applied
        assert set(stored_tags(root, "team/app")) == {"2.0", "latest"}
        assert stored_tags(root, OTHER) == before[OTHER]

        undone = await client.finish(f"{plan}/undo", {"only": ["team/app:1.1"]}, who="cleo")
        assert undone["result"]["tag_count"] == 1, undone
        assert set(stored_tags(root, "team/app")) == {"1.1", "2.0", "latest"}
        undone = await client.finish(f"{plan}/undo", who="cleo")
        assert (undone["result"]["losses"], undone["result"]["failures"]) == ([], [])
        assert stored_tags(root, "team/app") == before["team/app"]

        audit = (await client.ask("GET", "/audit", who="ann"))[1]["_embedded"]["items"]
        told = {(one["action"], one["principal"]) for one in audit}
        assert {("plan-create", "cleo"), ("plan-approve", "ann"), ("plan-approve", "bob")} <= told
        assert {one for one, who in told if who == "cleo"} >= {"plan-create", "plan-apply", "plan-undo"}
        status, evidence = await client.ask("GET", f"{plan}/evidence", who="ann")
        assert b'"record":"journal"' in evidence


async def test_made_final_the_runbook_comes_with_the_operation(docker_registry: StartRegistry, tmp_path: Path) -> None:
    root = tmp_path / "storage"
    lay_out(RandomRegistry(build_content(), ()), root)
    server = docker_registry(root=root)
    async with service(server, tmp_path) as client:
        assert (await client.finish("/crawls", {"registry": "prod", "repositories": ["team/app"]}, who="root"))[
            "result"
        ]
        body = {"tags": ["team/app:1.0"], "waive": WAIVED, "registry": "prod"}
        plan = (await client.finish("/plans", body, who="cleo"))["_links"]["plan"]["href"]
        assert (await client.ask("POST", f"{plan}/approve", who="ann"))[0] == 200
        applied = await client.finish(
            f"{plan}/apply", {"waive": ["no-live-events", "incomplete-inventory"]}, who="cleo"
        )
        assert applied["state"] == "done", applied
        finished = await client.finish(f"{plan}/finish", who="cleo")
        (ending,) = finished["result"]["endings"]
        assert ending["registry"] == "prod"
        is_collected_by_itself = find_chosen_mode() == "database"
        assert ("metadata database" if is_collected_by_itself else "garbage-collect") in ending["text"]
        gone = await client.finish(f"{plan}/undo", who="cleo")
        assert gone["state"] == "failed"
