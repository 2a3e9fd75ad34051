"""What tests of long work have in common: wait for an operation, people of kinds that count, plans over HTTP."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from regwarden.service_commands import service_handlers
from regwarden.service_context import ServiceContext
from regwarden.settings_sources import load_settings
from regwarden.web.api.context import ApiParts
from tests.web.api.conftest import Answer, Api

# Everything is minutes old, and repositories may lose most of what they have.
WAIVED = ["min-age", "never-empty", "repository-share", "manifest-limit", "inventory-age"]
END_SECONDS = 30.0


def policy(name: str, scope: str = "{}", approval: str = "one") -> str:
    """A policy that takes images which were made long ago."""
    return f"""\
apiVersion: retention/v1
kind: Policy
metadata: {{name: {name}}}
scope: {scope}
delete: [{{match: {{tags: {{any: ["glob:1.*"]}}}}, when: {{created: {{older-than: 30d}}}}}}]
apply: {{approval: {approval}}}
"""


def configured(parts: ApiParts, file: Path, **urls: str) -> ApiParts:
    """The same with these registries, name to address, in a configuration ``file``."""
    file.write_text("".join(f'[[registry]]\nname = "{name}"\nurl = "{url}"\n' for name, url in urls.items()))
    loaded = load_settings({}, file=file, database=parts.database.url)
    commands = service_handlers(ServiceContext(parts.database, loaded, {}))
    return replace(parts, loaded=loaded, commands=commands)


async def ended(api: Api, begun: Answer, *, who: str = "admin") -> Any:
    """The operation that was begun, when it has ended."""
    assert begun.status == 202, begun.body
    place = begun.headers["location"].removeprefix("/api/v1")
    deadline = time.monotonic() + END_SECONDS
    while (found := (await api.get(place, who=who)).json)["state"] == "running":
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.02)
    return found


async def make_plan(api: Api, *, who: str = "cleaner", **body: Any) -> int:
    """A new plan; returns its id."""
    given = {"registry": "prod", "waive": WAIVED, "probe": False, **body}
    found = await ended(api, await api.ask("POST", "/plans", given, who=who), who=who)
    assert found["state"] == "done", found
    plan_id: int = found["result"]["plan_id"]
    assert found["_links"]["plan"] == {"href": f"/api/v1/plans/{plan_id}"}
    return plan_id
