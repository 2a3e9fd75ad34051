"""What becomes of known repositories when GitLab shows them no more: gone only where GitLab says so, or people do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from regwarden import connect
from regwarden.library import Inventory
from regwarden.testing.images import image, layer
from tests.gitlab_double.running import GitLab, running_gitlab
from tests.gitlab_settings import NAME, write_config

pytestmark = pytest.mark.e2e

NAMES = ("ann/thing", "open/pub", "team/app", "team/app/work", "team/sub/tool/cli", "team/web-ui")
TEAM = [name for name in NAMES if name.startswith("team/")]
GROUP = 'gitlab_groups = ["team"]\n'
Change = Callable[[GitLab], None]


@pytest.fixture
def gitlab(tmp_path: Path) -> Iterator[GitLab]:
    with running_gitlab(tmp_path, mode="database") as running:
        for name in NAMES:
            running.push(name, image([layer(name, 1000)]), "1.0")
        yield running


def _known(inventory: Inventory) -> list[str]:
    return [row.repository for row in inventory.repositories() if row.tag_count]


def _crawl(inventory: Inventory, **options: Any) -> Any:
    return inventory.crawl(NAME, **options)


def _lose_membership(gitlab: GitLab) -> None:
    group = gitlab.scenario.group("team")
    assert group is not None
    group.members.pop("rita")


def _become_guest(gitlab: GitLab) -> None:
    group = gitlab.scenario.group("team")
    assert group is not None
    group.members["rita"] = 10


def _lose_administration(gitlab: GitLab) -> None:
    user = gitlab.scenario.user("root")
    assert user is not None
    user.is_admin = False


def _switch_registry_off(gitlab: GitLab) -> None:
    project = gitlab.scenario.project("team/web-ui")
    assert project is not None
    project.registry_access = "disabled"


def _delete_project(gitlab: GitLab) -> None:
    scenario, project = gitlab.scenario, gitlab.scenario.project("team/web-ui")
    assert project is not None
    scenario.projects.remove(project)
    scenario.repositories[:] = [one for one in scenario.repositories if one.project_id != project.id]
    gitlab.storage.delete_repository("team/web-ui")


@pytest.mark.parametrize(
    ("token", "scope", "change"),
    [
        ("reporter", GROUP, _lose_membership),
        ("reporter", "", _lose_membership),
        ("reporter", GROUP, _become_guest),
        ("admin", "", _lose_administration),
        ("admin", "", _switch_registry_off),
        ("reporter", GROUP, _delete_project),  # looks as a lost right does
    ],
)
def test_lost_rights_mark_nothing_as_gone(
    gitlab: GitLab, tmp_path: Path, token: str, scope: str, change: Change
) -> None:
    with connect(f"sqlite:///{tmp_path}/i.db", config=write_config(tmp_path, gitlab, token=token, scope=scope)) as ours:
        assert _crawl(ours).state == "complete"
        before = _known(ours)
        change(gitlab)
        assert _crawl(ours).state == "partial"
        assert _known(ours) == before


def test_what_moved_with_its_project_is_gone(gitlab: GitLab, tmp_path: Path) -> None:
    for number in range(4):  # so that one less is not suspicious
        gitlab.push("team/app", image([layer(f"more {number}", 10)]), f"more-{number}")
    config = write_config(tmp_path, gitlab, token="maintainer", scope=GROUP)
    with connect(f"sqlite:///{tmp_path}/i.db", config=config) as ours:
        _crawl(ours)
        gitlab.rename("team/sub/tool", "team/sub/new")
        outcome = _crawl(ours)
        assert outcome.state == "complete", outcome.certificate.doubts
        assert _known(ours) == ["team/app", "team/app/work", "team/sub/new/cli", "team/web-ui"]


def test_what_was_deleted_is_gone_for_who_sees_everything(gitlab: GitLab, tmp_path: Path) -> None:
    with connect(f"sqlite:///{tmp_path}/i.db", config=write_config(tmp_path, gitlab)) as ours:
        _crawl(ours)
        _delete_project(gitlab)
        assert _crawl(ours).state == "complete"
        assert _known(ours) == [name for name in NAMES if name != "team/web-ui"]


def test_people_may_say_that_it_is_gone(gitlab: GitLab, tmp_path: Path) -> None:
    config = write_config(tmp_path, gitlab, token="reporter", scope=GROUP)
    with connect(f"sqlite:///{tmp_path}/i.db", config=config) as ours:
        _crawl(ours)
        _delete_project(gitlab)
        assert _crawl(ours, accept_disappearance=True).state == "complete"
        assert _known(ours) == [name for name in TEAM if name != "team/web-ui"]


def test_one_reason_is_said_once(gitlab: GitLab, tmp_path: Path) -> None:
    config = write_config(tmp_path, gitlab, token="reporter", scope=GROUP)
    with connect(f"sqlite:///{tmp_path}/i.db", config=config) as ours:
        _crawl(ours)
        _lose_membership(gitlab)
        doubts = _crawl(ours).certificate.doubts
        assert len(doubts) == 1, doubts
        assert "the repositories of the group team could not be read to the end" in doubts[0]
