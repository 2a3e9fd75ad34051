"""A registry behind a GitLab is read as exactly as any other, in each of its modes, and with few requests."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import Select

from regwarden import connect
from regwarden.store.database import Access, Database, open_database
from regwarden.testing.content import BuiltManifest
from regwarden.testing.images import image, image_config
from tests import ground_truth
from tests.crawling import Inventory
from tests.gitlab_double.running import MODES, GitLab, Mode, running_gitlab
from tests.gitlab_settings import (
    NAME,
    changing_requests,
    count_requests,
    pushing_scopes,
    scenario_of,
    write_config,
)
from tests.live_registry import packed

pytestmark = pytest.mark.e2e

DATA = Path(__file__).resolve().parent.parent / "data" / "registry"
ACCEPTED = 202
HIDDEN = {"edge/dangling-tag", "edge/empty", "edge/layers-only"}
BIG, TAG_COUNT, OLD_COUNT = "team/big", 26_788, 300
POLICY = f"""\
apiVersion: retention/v1
kind: Policy
metadata: {{name: big}}
scope: {{repositories: {{include: ["{BIG}"]}}}}
keep: [{{newest: {TAG_COUNT - OLD_COUNT}, rank: {{by: created, count: tags}}}}]
delete: [{{match: {{}}}}]
"""


class Rows:
    """What the comparison with the ground truth asks of an inventory."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def rows(self, statement: Select[Any]) -> list[Mapping[str, Any]]:
        return self.database.read_now(
            lambda connection: [dict(row) for row in connection.execute(statement).mappings()]
        )


@pytest.fixture(scope="module")
def truth() -> Any:
    """The figures; what lies in no namespace, as nothing does at GitLab, is moved into one."""
    found = json.loads((DATA / "truth.json").read_text())
    found["repositories"] = {
        name.replace("edge-parent", "moved/edge-parent"): facts for name, facts in found["repositories"].items()
    }
    return found


@pytest.fixture(scope="module", params=MODES)
def gitlab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, truth: Any) -> Iterator[GitLab]:
    folder, mode = tmp_path_factory.mktemp("gitlab"), cast("Mode", request.param)
    with tarfile.open(DATA / "root.tar.gz") as archive:
        archive.extractall(folder / "storage", filter="data")
    repositories = folder / "storage" / "docker" / "registry" / "v2" / "repositories"
    (repositories / "moved").mkdir()
    (repositories / "edge-parent").rename(repositories / "moved" / "edge-parent")
    with running_gitlab(folder, mode=mode, scenario=scenario_of(truth["repositories"]), root=folder / "storage") as one:
        yield one


def as_in(mode: Mode, truth: Any) -> Any:
    """The figures as that registry shows them: its database has no tag that leads nowhere, nor empty repositories."""
    if mode != "database":
        return truth
    shown = {name: facts for name, facts in truth["repositories"].items() if name not in HIDDEN}
    registry = {**truth["registry"], "tags": truth["registry"]["tags"] - 1}
    return {**truth, "repositories": shown, "registry": registry}


def test_the_inventory_equals_the_ground_truth_and_a_second_crawl_asks_little(
    gitlab: GitLab, truth: Any, tmp_path: Path
) -> None:
    url, config = f"sqlite:///{tmp_path}/inventory.sqlite3", write_config(tmp_path, gitlab)
    expected = as_in(gitlab.mode, truth)
    repository_count = len(expected["repositories"])
    gitlab.forget_requests()
    with connect(url, config=config, environ={}) as inventory:
        report = inventory.crawl(NAME)
        assert (report.state, report.certificate.doubts) == ("complete", ())
        projects = {row.repository: row.project for row in inventory.repositories()}
    with open_database(url, access=Access.READ) as database:
        ground_truth.assert_inventory_equals(cast("Inventory", Rows(database)), expected)
    owned = {name: gitlab.scenario.project_of_path(name) for name in projects}
    assert projects == {name: project and project.path for name, project in owned.items()}
    see_that_nothing_was_changed(gitlab)
    # One for the catalog, one or two to find out what it is, and one for sixteen repositories.
    assert count_requests(gitlab, "issuer") <= 4 + repository_count // 16
    gitlab.forget_requests()
    with connect(url, config=config, environ={}) as inventory:
        again = inventory.crawl(NAME)
        assert (again.state, again.certificate.moved_tag_count, again.certificate.gone_tag_count) == ("complete", 0, 0)
    see_that_nothing_was_changed(gitlab)
    asked = count_requests(gitlab, "registry")
    if gitlab.mode == "database":
        assert count_requests(gitlab, "registry", "/tags/list") == repository_count
        assert asked <= 2 * repository_count + 10
    else:
        assert asked <= 2 * repository_count + expected["registry"]["tags"] + 20


def see_that_nothing_was_changed(gitlab: GitLab) -> None:
    assert pushing_scopes(gitlab) == []
    assert changing_requests(gitlab) == []


def test_a_repository_of_thousands_of_tags_is_read_planned_and_cleaned_up(tmp_path: Path) -> None:
    with running_gitlab(tmp_path, mode="database", scenario=scenario_of([BIG])) as gitlab:
        kept, old = picture("kept", 2024), picture("old", 2020)
        gitlab.push(BIG, kept)
        gitlab.push(BIG, old)
        gitlab.fill_tags(BIG, str(old.digest), [f"old-{n:03d}" for n in range(OLD_COUNT)], at=1_600_000_000)
        gitlab.fill_tags(BIG, str(kept.digest), [f"v{n:05d}" for n in range(TAG_COUNT - OLD_COUNT)], at=1_700_000_000)
        config = write_config(tmp_path, gitlab, token="maintainer", scope=f'gitlab_projects = ["{BIG}"]\n')
        gitlab.forget_requests()
        with connect(f"sqlite:///{tmp_path}/i.sqlite3", config=config, environ={"HOME": str(tmp_path)}) as inventory:
            assert inventory.crawl(NAME).certificate.tag_count == TAG_COUNT
            assert count_requests(gitlab, "registry", "/tags/list") <= TAG_COUNT // 1000 + 2
            assert len(gitlab.requests) <= TAG_COUNT // 1000 + 40
            gitlab.forget_requests()
            plan_id = inventory.create_plan(policies={"big.yaml": POLICY}, waive=("min-age",))
            steps = inventory.plan_steps(plan_id)
            assert {tag for step in steps for tag in step.tags} == {f"old-{n:03d}" for n in range(OLD_COUNT)}
            assert removed(gitlab) == []
            inventory.approve_plan(plan_id)
            gitlab.forget_requests()
            report = inventory.apply_plan(plan_id, waive=("no-live-events",))
        # Its delete, at most one question before and one after it, and what is asked once.
        assert len(gitlab.requests) <= 3 * OLD_COUNT + TAG_COUNT // 1000 + 40
        assert (report.state, report.problems) == ("applied", ())
        assert set(gitlab.view.tags(BIG)) == {f"v{n:05d}" for n in range(TAG_COUNT - OLD_COUNT)}
        assert len(removed(gitlab)) == OLD_COUNT
        assert {name.rpartition("/")[2] for name in removed(gitlab)} == {f"old-{n:03d}" for n in range(OLD_COUNT)}
        assert pushing_scopes(gitlab) == []


def removed(gitlab: GitLab) -> list[str]:
    """What was accepted to go; it is asked to delete what cannot exist as well, to see whether it would."""
    return [one.path for one in gitlab.requests if one.method not in ("GET", "HEAD") and one.status == ACCEPTED]


def picture(seed: str, year: int) -> BuiltManifest:
    return image([packed("shared"), packed(f"only in {seed}")], image_config(created=datetime(year, 1, 1, tzinfo=UTC)))
