"""Cleaning up behind a GitLab with the metadata database, by the command line: tags, rules, repositories, undo."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from regwarden.testing.content import BuiltManifest
from regwarden.testing.images import image, image_config, index
from tests.cleanup_world import NAME, World
from tests.gitlab_double.running import GitLab, running_gitlab
from tests.gitlab_double.state import TagRule
from tests.live_registry import packed

pytestmark = pytest.mark.e2e

WAIVED = ("--waive", "min-age", "--waive", "never-empty", "--waive", "repository-share")


@dataclass
class Place(World):
    """A person with a token at a GitLab."""

    gitlab: GitLab | None = None

    @property
    def config(self) -> Path:
        assert self.gitlab is not None
        (self.folder / "token").write_text(self.gitlab.tokens["maintainer"])
        (self.folder / "token").chmod(0o600)
        path = self.folder / "regwarden.toml"
        path.write_text(
            f'[[registry]]\nname = "{NAME}"\nkind = "gitlab"\nurl = "{self.gitlab.registry_url}"\n'
            f'gitlab_url = "{self.gitlab.url}"\ngitlab_groups = ["team"]\npassword_file = "{self.folder}/token"\n'
        )
        return path

    def tags(self, repository: str) -> set[str]:
        assert self.gitlab is not None
        return set(self.gitlab.view.tags(repository))


@pytest.fixture(scope="module")
def gitlab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitLab]:
    with running_gitlab(tmp_path_factory.mktemp("gitlab"), mode="database") as gitlab:
        yield gitlab


def picture(seed: str) -> BuiltManifest:
    return image([packed("base"), packed(f"only in {seed}")], image_config("linux/amd64", labels={"of": seed}))


@contextmanager
def working(gitlab: GitLab) -> Iterator[None]:
    """GitLab's background work is done meanwhile."""
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(0.2):
            gitlab.tick()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def methods(gitlab: GitLab, part: str) -> set[tuple[str, str]]:
    """What was asked of a part that changes something."""
    return {(one.method, one.path) for one in gitlab.requests if one.part == part and one.method not in ("GET", "HEAD")}


def pushes(gitlab: GitLab) -> list[str]:
    """The scopes with which the right to push was asked for."""
    return [scope for one in gitlab.requests if one.part == "issuer" for scope in one.scopes if "push" in scope]


def test_tags_go_one_by_one_and_come_back(gitlab: GitLab, tmp_path: Path) -> None:
    old, multi = picture("old"), index([picture("one"), picture("two")])
    for tag in ("1.0", "1.1"):
        gitlab.push("team/app", old, tag)
    gitlab.push("team/app", multi, "1.2")
    gitlab.push("team/app", picture("new"), "2.0")
    gitlab.push("team/web-ui", picture("rule"), "v1")
    place = Place(gitlab.registry, tmp_path, gitlab=gitlab)
    place.tell("crawl", NAME)
    gitlab.forget_requests()
    place.tell("crawl", NAME)
    assert not [one for one in gitlab.requests if "/manifests/" in one.path]
    made = place.plan("--repository", "team/app", "--tag", "glob:1.*", *WAIVED)
    report = place.apply(made["id"])
    assert (report["state"], report["problems"]) == ("applied", [])
    assert place.tags("team/app") == {"2.0"}
    removed = {path.rpartition("/")[2] for method, path in methods(gitlab, "registry") if method == "DELETE"}
    assert {"1.0", "1.1", "1.2"} <= removed
    assert str(old.digest) not in removed
    assert pushes(gitlab) == []
    undone = place.ask("plan", "undo", str(made["id"]))
    assert (undone["state"], undone["tag_count"]) == ("undone", 3)
    assert place.tags("team/app") == {"1.0", "1.1", "1.2", "2.0"}
    assert pushes(gitlab) != []


def test_what_a_new_rule_protects_is_skipped(gitlab: GitLab, tmp_path: Path) -> None:
    for tag in ("1.0", "final"):
        gitlab.push("team/app/work", picture(f"work {tag}"), tag)
    gitlab.push("team/app/work", picture("work new"), "2.0")
    place = Place(gitlab.registry, tmp_path, gitlab=gitlab)
    place.tell("crawl", NAME)
    made = place.plan("--repository", "team/app/work", "--tag", "1.0", "--tag", "final", *WAIVED)
    project = next(one for one in gitlab.scenario.projects if one.path == "team/app")
    project.tag_rules.append(TagRule(77, "^final$", "maintainer", "owner"))
    try:
        report = place.apply(made["id"], status=3)
        assert (report["state"], report["problems"]) == ("applied", [])
        assert [one for one in report["skipped"] if "protected by GitLab" in one]
        assert place.tags("team/app/work") == {"2.0", "final"}
    finally:
        project.tag_rules.clear()


def test_a_repository_goes_as_a_whole_and_comes_back(gitlab: GitLab, tmp_path: Path) -> None:
    gitlab.push("team/app/worker", picture("worker"), "1.0")
    place = Place(gitlab.registry, tmp_path, gitlab=gitlab)
    place.tell("crawl", NAME)
    made = place.plan("--repository", "team/app/worker", "--drop-repositories", *WAIVED)
    steps = place.ask("plan", "show", str(made["id"]), "--steps")
    assert [one["kind"] for one in steps] == ["delete", "drop"]
    with working(gitlab):
        report = place.apply(made["id"])
    assert (report["state"], report["problems"]) == ("applied", [])
    assert "team/app/worker" not in {one.path for one in gitlab.scenario.repositories}
    undone = place.ask("plan", "undo", str(made["id"]))
    assert (undone["state"], undone["tag_count"]) == ("undone", 1)
    assert place.tags("team/app/worker") == {"1.0"}
