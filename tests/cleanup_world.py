"""A real registry, the inventory of it, and a person who cleans up in it: by the library or by the command line."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from regwarden import connect
from regwarden.flows.apply_records import ApplyReport
from regwarden.library import Inventory
from regwarden.library_plans import PlanArguments
from tests.fixtures.distribution_servers import RegistryServer
from tests.live_registry import skopeo
from tests.sample_inventory import run_cli

NAME = "prod"
# Everything here is minutes old, and repositories may lose most of what they have.
WAIVED = ("min-age", "never-empty", "repository-share", "manifest-limit")


@dataclass
class World:
    """The registry and what is kept of it in ``folder``. The registry has this address as long as it lives."""

    registry: RegistryServer
    folder: Path
    more_settings: str = ""

    @property
    def config(self) -> Path:
        path = self.folder / "regwarden.toml"
        path.write_text(f"{self.registry.section(NAME)}{self.more_settings}")
        return path

    @property
    def database(self) -> str:
        return f"sqlite:///{self.folder}/inventory.sqlite3"

    def open(self) -> Inventory:
        return connect(self.database, config=self.config, environ={"HOME": str(self.folder)})

    def tell(self, *arguments: str, status: int = 0) -> str:
        """What a command prints; fails the test if it ends otherwise than with ``status``."""
        run = run_cli(self.folder, *arguments, REGWARDEN_DATABASE=self.database, REGWARDEN_CONFIG=str(self.config))
        if run.exit_code != status:
            pytest.fail(f"regwarden {' '.join(arguments)} ended with {run.exit_code}:\n{run.output}", pytrace=False)
        return run.stdout

    def ask(self, *arguments: str, status: int = 0) -> Any:
        """The same as JSON."""
        return json.loads(self.tell(*arguments, "--output", "json", status=status))

    def plan(self, *arguments: str, status: int = 0) -> Any:
        """A new plan, agreed to unless it is blocked; as ``plan create`` prints it."""
        found = self.ask("plan", "create", *arguments, status=status)
        if not found["is_blocked"]:
            self.tell("plan", "approve", str(found["id"]))
        return found

    def apply(self, plan_id: int, *, status: int = 0) -> Any:
        return self.ask("plan", "apply", str(plan_id), "--waive", "no-live-events", status=status)

    def pull(self, reference: str, folder: Path, *options: str) -> None:
        """Pull ``REPOSITORY:TAG`` with every platform, verified."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        chosen = options or ("--all",)
        skopeo("copy", *chosen, "--src-tls-verify=false", f"docker://{self.registry.host}/{reference}", f"dir:{folder}")


def carry_out(inventory: Inventory, arguments: PlanArguments) -> tuple[Any, ApplyReport]:
    """Plan, agree and apply; the plan's sizes and what came of it."""
    plan_id = inventory.create_plan(**arguments)
    inventory.approve_plan(plan_id)
    report = inventory.apply_plan(plan_id, waive=("no-live-events",))
    return inventory.plan(plan_id), report
