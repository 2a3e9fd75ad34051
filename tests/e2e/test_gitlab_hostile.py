"""A GitLab that breaks off and refuses: what a crawl cannot see stays, and one failed login is enough."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from regwarden import Inventory, connect
from regwarden.errors import RegwardenError
from regwarden.registries.gitlab import login
from regwarden.store.database import Access, open_database
from regwarden.store.project_rules import load_rule_holds
from regwarden.testing.images import image, layer
from tests.gitlab_double.recording import Fault, FaultKind, Part
from tests.gitlab_double.running import GitLab, running_gitlab
from tests.gitlab_double.state import TagRule
from tests.gitlab_settings import NAME, changing_requests, pushing_scopes, write_config

pytestmark = pytest.mark.e2e

REPOSITORIES = ("open/pub", "team/app", "team/app/work", "team/sub/tool/cli", "team/web-ui")
SCOPE = 'gitlab_groups = ["team", "open"]\n'
QUICK = "[defaults]\nretries = 0\n"


@pytest.fixture(scope="module")
def gitlab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitLab]:
    with running_gitlab(tmp_path_factory.mktemp("gitlab"), mode="database") as running:
        for name in REPOSITORIES:
            for tag in ("1.0", "v2", "x-final"):
                running.push(name, image([layer(f"{name} {tag}", 100)]), tag)
        yield running


def config_of(folder: Path, gitlab: GitLab, *, token: str = "maintainer") -> Path:
    path = write_config(folder, gitlab, token=token, scope=SCOPE)
    path.write_text(QUICK + path.read_text())
    return path


def state_of(inventory: Inventory) -> tuple[list[tuple[str, str | None]], list[tuple[str, str]]]:
    repositories = [(row.repository, row.project) for row in inventory.repositories()]
    tags = [(row.repository, row.tag) for row in inventory.tags()]
    return sorted(repositories), sorted(tags)


FAULTS: list[tuple[FaultKind, Part, str]] = [
    *((kind, "rails", "groups/(team|open)/registry") for kind in (FaultKind.BAD_GATEWAY, FaultKind.TRUNCATED)),
    *((kind, "rails", "/api/v4/") for kind in (FaultKind.RESET, FaultKind.EXPIRED, FaultKind.BANNED)),
    *((kind, "registry", "/tags/list") for kind in (FaultKind.TRUNCATED, FaultKind.BANNED)),
    (FaultKind.EXPIRED, "registry", "/gitlab/v1"),
    (FaultKind.BAD_GATEWAY, "issuer", "team"),
]


def test_what_cannot_be_read_stays(gitlab: GitLab, tmp_path: Path) -> None:
    url, config = f"sqlite:///{tmp_path}/i.sqlite3", config_of(tmp_path, gitlab)
    with connect(url, config=config, environ={}) as inventory:
        assert inventory.crawl(NAME).state == "complete"
        before = state_of(inventory)
        gitlab.forget_requests()
        for kind, part, path in FAULTS:
            gitlab.faults.clear()
            gitlab.faults.add(Fault(kind, part=part, path=path, count=1000, skip=int(part != "issuer")))
            report = inventory.crawl(NAME)
            assert report.state == "partial"
            assert report.certificate.doubts or report.problems
            assert state_of(inventory) == before, (kind, part, path)
        gitlab.faults.clear()
    assert pushing_scopes(gitlab) == []
    assert changing_requests(gitlab) == []


def test_rules_that_cannot_be_read_go_on_holding(gitlab: GitLab, tmp_path: Path) -> None:
    url, config = f"sqlite:///{tmp_path}/i.sqlite3", config_of(tmp_path, gitlab)
    # This one does not bar us, so that our tokens do not name it.
    app = next(project for project in gitlab.scenario.projects if project.path == "team/app")
    app.tag_rules[:] = [TagRule(78, "^v", "maintainer", "maintainer")]

    def held() -> list[tuple[str, str]]:
        with open_database(url, access=Access.READ) as database:
            holds = database.read_now(lambda connection: load_rule_holds(connection, NAME))
        return [(one.repository, one.tag) for one in holds]

    with connect(url, config=config, environ={}) as inventory:
        inventory.crawl(NAME)
        before = held()
        assert before == [
            ("team/app", "v2"),
            ("team/app/work", "v2"),
            ("team/sub/tool/cli", "x-final"),
            ("team/web-ui", "v2"),
        ]
        for fault in (
            Fault(FaultKind.BANNED, path="/protection/", count=99),
            Fault(FaultKind.BAD_GATEWAY, path="/protection/tag/", count=99),
            Fault(FaultKind.BANNED, path="/api/v4/projects", count=99),
            Fault(FaultKind.GRANT_LESS, part="issuer", count=99),
            Fault(FaultKind.BAD_GATEWAY, part="issuer", count=99),
        ):
            gitlab.faults.clear()
            gitlab.faults.add(fault)
            with suppress(RegwardenError):
                inventory.crawl(NAME)
            assert held() == before, fault
    gitlab.faults.clear()
    app.tag_rules.clear()


def failures_of(gitlab: GitLab) -> int:
    """How often GitLab did not accept somebody."""
    return sum(one.part != "registry" and one.status in (401, 403) for one in gitlab.requests)


POLICY = """\
apiVersion: retention/v1
kind: Policy
metadata: {name: one}
scope: {repositories: {include: ["open/pub"]}}
delete: [{match: {tags: {any: ["glob:1.0"]}}}]
"""


@pytest.fixture
def forget(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """As in a new process: nobody has been refused yet."""
    return lambda: monkeypatch.setattr(login, "_refusals", OrderedDict())


@pytest.mark.parametrize("token", ["expired", "revoked"])
def test_one_failed_login_is_enough(gitlab: GitLab, tmp_path: Path, forget: Callable[[], None], token: str) -> None:
    url = f"sqlite:///{tmp_path}/i.sqlite3"
    waived = ("min-age", "never-empty", "repository-share", "no-live-events")
    with connect(url, config=config_of(tmp_path, gitlab), environ={}) as inventory:
        inventory.crawl(NAME)
        inventory.check(NAME)
        plan_id = inventory.create_plan(policies={"one.yaml": POLICY}, waive=waived[:3])
        assert [step.tags for step in inventory.plan_steps(plan_id)] == [("1.0",)]
        inventory.approve_plan(plan_id)
        before = state_of(inventory)
    config = config_of(tmp_path, gitlab, token=token)
    doings: list[Callable[[Inventory], object]] = [
        lambda one: one.crawl(NAME),
        lambda one: one.check(NAME),
        lambda one: one.apply_plan(plan_id, waive=waived),
        lambda one: one.crawl(NAME, repositories=["open/pub", "team/app"]),
    ]
    for doing in doings:
        forget()
        gitlab.forget_requests()
        for _ in range(3):  # a service goes on with whatever is due
            with connect(url, config=config, environ={}) as inventory, suppress(RegwardenError):
                doing(inventory)
        assert failures_of(gitlab) == 1
        assert changing_requests(gitlab) == []
    with connect(url, config=config, environ={}) as inventory:
        assert state_of(inventory) == before
    assert gitlab.tokens[token] not in Path(f"{tmp_path}/i.sqlite3").read_text("latin-1")
