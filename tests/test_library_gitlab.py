"""What the library and the command line tell of a GitLab: projects, sizes with reasons, its cleanup beside ours."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from regwarden.core.gitlab_cleanup import Fate
from regwarden.core.importers.api import Severity
from regwarden.core.projects import Features
from regwarden.errors import InputError, NotFound
from regwarden.library import Inventory, connect
from regwarden.store.database import Access, open_database
from tests.gitlab_inventory import PUBLISHED_AT, make_gitlab
from tests.sample_inventory import APP_BYTES, BASE_BYTES, Run, run_cli, small_registry


@pytest.fixture(scope="module")
def gitlab_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database with the small registry as that of a GitLab, and a plan that removes a tag of it."""
    place = tmp_path_factory.mktemp("gitlab")
    url = f"sqlite:///{place / 'inventory.sqlite3'}"
    with small_registry() as registry:
        assert run_cli(place, "crawl", registry.url, "--name", "lab", "--database", url).exit_code == 0
    with open_database(url, access=Access.WRITE) as database:
        make_gitlab(database, "lab")
    words = ("plan", "create", "--repository", "team/app", "--tag", "1.1.0", "--no-probe", "--waive", "min-age")
    assert "cleanup of Team/App is on" in run_cli(place, *words, "--database", url).stderr
    return url


@pytest.fixture
def inventory(gitlab_url: str) -> Inventory:
    return connect(gitlab_url)


@pytest.fixture
def ask(gitlab_url: str, tmp_path: Path) -> Run:
    return partial(run_cli, tmp_path, REGWARDEN_DATABASE=gitlab_url)


def test_projects_are_told_with_what_we_may_do_there(inventory: Inventory):
    app, web = inventory.projects()
    assert (app.project, app.group, app.owner, app.access_level) == ("Team/App", "Team", "ann", "maintainer")
    assert (app.repository_count, app.rule_count, app.is_cleanup_on, app.gitlab_bytes) == (1, 1, True, 2_500_000)
    assert (web.rule_count, web.is_cleanup_on, web.access_level) == (None, None, "reporter")
    with pytest.raises(InputError, match="no registry of kind gitlab"):
        inventory.projects("prod")


def test_sizes_stand_beside_ours_and_the_difference_is_explained(inventory: Inventory):
    app, web = inventory.gitlab_sizes("lab")
    layers = BASE_BYTES + 6 * APP_BYTES
    assert (app.name, app.gitlab_bytes, app.tagged_layer_bytes, app.difference_bytes) == (
        "team/app",
        2_500_000,
        layers,
        2_500_000 - layers,
    )
    assert any("configurations and manifests" in reason for reason in app.reasons)
    assert web.gitlab_bytes is None
    assert web.tagged_layer_bytes == BASE_BYTES + 150_000
    assert "GitLab gave no figure" in web.reasons[0]
    (namespace, *_) = inventory.gitlab_sizes(by="namespace")
    assert namespace.is_estimated is True
    assert "counts untagged layers too" in " ".join(namespace.reasons)
    assert [row.name for row in inventory.gitlab_sizes(by="project")] == ["Team/App", "team/web"]
    with pytest.raises(InputError, match="no sizes by 'colour'"):
        inventory.gitlab_sizes(by="colour")


def test_usage_by_project_counts_shared_content_once(inventory: Inventory, ask: Run):
    groups = inventory.usage(group_by="group", depth=1).groups
    assert {one.group for one in groups} == {"Team", "team"}
    whole = inventory.usage(group_by="path").groups[0]
    assert (whole.group, whole.repository_count, whole.shared_bytes) == ("team", 2, 0)
    assert whole.stored_bytes == inventory.registries()[0].stored_bytes
    table = ask("usage", "--group-by", "owner").stdout
    assert "(none)" in table
    assert "ann" in table
    rows = json.loads(ask("usage", "--group-by", "project", "--output", "json").stdout)["groups"]
    assert {row["group"] for row in rows} == {"Team/App", "team/web"}
    assert ask("usage", "--group-by", "project", "--output", "csv").stdout.startswith("registry,project,")
    assert ask("usage", "--depth", "1").exit_code == 2
    assert "a depth does not go with owner" in ask("usage", "--group-by", "owner", "--depth", "1").stderr


def test_a_run_of_the_policy_is_simulated_over_our_tags(inventory: Inventory):
    found = inventory.simulate_cleanup("team/app", as_of="2026-12-01")
    assert {row.tag: (row.fate, row.reason) for row in found.tags} == {
        "1.0.0": ("stays", "protected"),
        "1.1.0": ("goes", "old"),
        "1.2.0": ("stays", "newest"),
        "latest": ("stays", "latest"),
    }
    assert found.count(Fate.GOES) == 1
    early = inventory.simulate_cleanup("team/app", as_of=PUBLISHED_AT)
    assert early.count(Fate.GOES) == 0
    with pytest.raises(NotFound, match="no cleanup policy of team/web"):
        inventory.simulate_cleanup("team/web")
    with pytest.raises(NotFound, match="no project 'x'"):
        inventory.simulate_cleanup("x")


def test_without_the_metadata_database_the_build_date_counts(gitlab_url: str, tmp_path: Path):
    copy = tmp_path / "copy.sqlite3"
    copy.write_bytes(Path(gitlab_url.removeprefix("sqlite:///")).read_bytes())
    with open_database(f"sqlite:///{copy}", access=Access.WRITE) as database:
        make_gitlab(database, "lab", Features.FILES)
    found = connect(f"sqlite:///{copy}").simulate_cleanup("Team/App", as_of="2026-12-01")
    assert next(row for row in found.tags if row.tag == "1.1.0").dated_at.month == 2
    assert any("when images were built" in note for note in found.notes)


def test_the_policy_becomes_one_of_ours_with_what_differs(inventory: Inventory, ask: Run):
    imported = inventory.import_cleanup_policy("team/app")
    assert "glob:team/app/**" in imported.text
    assert "runs next at 2026-12-01 03:00" in imported.differences[-1].message
    assert imported.differences[-1].severity is Severity.NOTE
    result = ask("gitlab", "cleanup", "import", "team/app")
    assert "kind: Policy" in result.stdout
    assert "side-by-side" in result.stderr


def test_plans_are_told_by_group_and_warn_of_gitlabs_own_cleanup(inventory: Inventory, ask: Run):
    report = inventory.plan(1)
    warning, scope = report.warnings
    assert scope.endswith("exclusive and reclaimable bytes are upper bounds")
    assert inventory.usage().remarks == (scope,)
    assert "upper bounds" in ask("usage", "--group-by", "project").stderr
    assert warning.startswith("GitLab's own cleanup of Team/App is on and runs next at 2026-12-01 03:00 UTC:")
    assert warning.endswith("(they are then skipped as gone)")
    (row,) = inventory.plan_groups(1, "project")
    assert (row.group, row.step_count, row.tag_count, row.manifest_count) == ("Team/App", 1, 1, 1)
    assert row.freed_alone_bytes == report.summary.sizes["lab"]["reclaimable_bytes"]
    shown = ask("plan", "show", "1", "--group-by", "group", "--depth", "1")
    assert "frees alone" in shown.stdout
    assert ask("plan", "show", "1", "--group-by", "group", "--steps").exit_code == 2
    assert json.loads(ask("plan", "show", "1", "--output", "json").stdout)["warnings"] == list(report.warnings)
    assert "plan 1 removes something here, too" in ask("gitlab", "cleanup", "show").stderr


def test_our_policies_that_decide_in_the_same_project_are_named(inventory: Inventory):
    text = (
        "apiVersion: retention/v1\nkind: Policy\nmetadata: {name: ours}\n"
        'scope: {repositories: {include: ["glob:team/*"], exclude: ["team/web"]}}\n'
        'delete: [{match: {tags: {any: ["glob:dev-*"]}}, when: {tagged: {older-than: 30d}}}]\n'
    )
    app, web = inventory.cleanup_policies(policies={"ours.yaml": text})
    assert app.warnings[-1].startswith("our policy ours decides here, too")
    assert web.warnings == []


def test_the_commands_print_tables_and_objects(ask: Run):
    assert "Team/App" in ask("gitlab", "projects").stdout
    assert "runs next" not in ask("gitlab", "cleanup", "show", "--project", "team/web").stdout
    table = ask("gitlab", "cleanup", "simulate", "team/app", "--as-of", "2026-12-01").stdout
    assert "1 tag goes, 3 stay" in table
    record = json.loads(ask("gitlab", "cleanup", "simulate", "team/app", "--output", "json").stdout)
    assert {"tags", "notes", "policy"} <= record.keys()
    sizes = json.loads(ask("gitlab", "sizes", "--output", "json").stdout)
    assert sizes[0]["meaning"] == "layers that tags reach"
    assert "stored" in ask("gitlab", "sizes", "--by", "namespace").stdout
