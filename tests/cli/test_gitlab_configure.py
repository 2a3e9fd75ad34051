"""What ``gitlab configure`` prints, and what ``registry check`` says of a token at a GitLab."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from regwarden.core.projects import Mode
from regwarden.store.database import Access, open_database
from regwarden.store.projects import load_access
from regwarden.testing.images import image, layer
from tests.gitlab_double.running import GitLab, running_gitlab
from tests.sample_inventory import Run


@pytest.fixture(scope="module")
def gitlab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitLab]:
    with running_gitlab(tmp_path_factory.mktemp("gitlab"), mode="database") as running:
        running.push("team/app", image([layer("app", 1000)]), "1.0")
        yield running


@pytest.fixture
def token_file(gitlab: GitLab, tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text(f"{gitlab.tokens['maintainer-read']}\n")
    return file


def test_the_lines_can_be_pasted_and_the_registry_is_not_asked(
    run: Run, gitlab: GitLab, token_file: Path, tmp_path: Path
) -> None:
    gitlab.forget_requests()
    told = run("gitlab", "configure", gitlab.url, "--password-file", str(token_file), "--group", "team")
    assert told.exit_code == 0, told.stderr
    block = tomllib.loads(told.stdout)["registry"][0]
    assert block == {
        "name": gitlab.url.removeprefix("http://"),
        "kind": "gitlab",
        "url": gitlab.registry_url,
        "gitlab_url": gitlab.url,
        "gitlab_groups": ["team"],
        "password_file": str(token_file),
    }
    assert "# user mia, no administrator; scopes of the token: read_api, read_registry" in told.stdout
    assert "# Missing: Deleting needs the scope api; this token has read_api, read_registry." in told.stdout
    assert gitlab.tokens["maintainer-read"] not in told.stdout
    assert {each.part for each in gitlab.requests} == {"rails"}
    config = tmp_path / "regwarden.toml"
    config.write_text(told.stdout)
    checked = run("config", "check", str(config))
    assert checked.exit_code == 0, checked.stderr


def test_a_program_gets_the_same_as_json_and_the_token_may_come_by_standard_input(run: Run, gitlab: GitLab) -> None:
    secret = gitlab.tokens["admin-read"]
    told = run("gitlab", "configure", gitlab.url, "--password-stdin", "--output", "json", stdin=f"{secret}\n")
    assert told.exit_code == 0, told.stderr
    row = json.loads(told.stdout)[0]
    assert (row["url"], row["user"], row["is_admin"]) == (gitlab.registry_url, "root", True)
    assert row["expires_at"]


def test_a_public_project_needs_no_token(run: Run, gitlab: GitLab) -> None:
    gitlab.push("open/pub", image([layer("public", 1000)]), "1.0")
    told = run("gitlab", "configure", gitlab.url, "--project", "open/pub")
    assert told.exit_code == 0, told.stderr
    assert tomllib.loads(told.stdout)["registry"][0]["url"] == gitlab.registry_url
    read = run("crawl", gitlab.registry_url, "--gitlab", gitlab.url, "--gitlab-project", "open/pub")
    assert read.exit_code == 0, read.stderr
    listed = run("tag", "list", "--columns", "repository,tag,location,destroy_path", "--output", "json")
    row = json.loads(listed.stdout)[0]
    location = f"{gitlab.registry_host}/open/pub:1.0"
    assert row == {"repository": "open/pub", "tag": "1.0", "location": location, "destroy_path": None}


def test_groups_of_a_gitlab_need_the_gitlab(run: Run, gitlab: GitLab) -> None:
    refused = run("crawl", gitlab.registry_url, "--gitlab-group", "team")
    assert refused.exit_code == 2
    assert "--gitlab" in refused.stderr


@pytest.mark.parametrize(
    ("token", "words", "said"),
    [
        ("expired", (), "expired"),
        ("maintainer-read", ("--project", "team/none"), "no project that can be seen names the registry"),
        ("read_registry", (), "no project that can be seen names the registry"),
    ],
)
def test_what_goes_wrong_is_said(run: Run, gitlab: GitLab, token: str, words: tuple[str, ...], said: str) -> None:
    secret = gitlab.tokens[token]
    told = run("gitlab", "configure", gitlab.url, "--password-stdin", *words, stdin=f"{secret}\n")
    assert told.exit_code == 1
    assert said in told.stderr
    assert told.stdout == ""
    assert secret not in told.stderr


def test_a_check_says_who_we_are_and_what_is_missing(
    run: Run, gitlab: GitLab, token_file: Path, tmp_path: Path
) -> None:
    config = tmp_path / "regwarden.toml"
    config.write_text(
        f'[[registry]]\nname = "lab"\nkind = "gitlab"\nurl = "{gitlab.registry_url}"\n'
        f'gitlab_url = "{gitlab.url}"\npassword_file = "{token_file}"\n'
    )
    gitlab.forget_requests()
    told = run("--config", str(config), "registry", "check", "lab", "--notifications", "none")
    assert told.exit_code == 0, told.stderr
    for line in (
        "server GitLab's registry 4.32.0-gitlab, metadata database on",
        "  credentials: settings\n",
        "  GitLab: user mia, no administrator; scopes of the token: read_api, read_registry\n",
        "  the token ends on ",
        "  reads the whole instance, by walking groups and projects\n",
        "  the registry: its metadata database is on: up to 1,000 tags are read with one request\n",
        "  the token can read the projects\n",
        "  the token cannot list the catalog, remove tags, delete manifests",
        "  missing: Deleting needs the scope api; this token has read_api, read_registry.\n",
        "  missing: Without administrator rights the catalog is refused: groups and projects are walked instead.\n",
    ):
        assert line in told.stdout, told.stdout
    assert {each.method for each in gitlab.requests} == {"GET"}
    assert not [each for each in gitlab.requests if any("push" in scope for scope in each.scopes)]
    record = json.loads(run("--config", str(config), "registry", "check", "lab", "--output", "json").stdout)[0]
    assert record["access"]["user"] == "mia"
    assert record["access"]["features"] == "database"
    assert record["access"]["scopes"] == ["read_api", "read_registry"]
    assert "gitlab.rb" in run("--config", str(config), "registry", "check", "lab").stdout


def test_a_crawl_and_a_check_keep_who_we_are(run: Run, gitlab: GitLab, token_file: Path, tmp_path: Path) -> None:
    config, url = tmp_path / "regwarden.toml", f"sqlite:///{tmp_path / 'inventory.sqlite3'}"
    config.write_text(
        f'database = "{url}"\n[[registry]]\nname = "lab"\nkind = "gitlab"\nurl = "{gitlab.registry_url}"\n'
        f'gitlab_url = "{gitlab.url}"\ngitlab_projects = ["team/app"]\npassword_file = "{token_file}"\n'
    )
    told = run("--config", str(config), "crawl", "lab")
    assert told.exit_code == 0, told.stderr
    token_file.write_text(gitlab.tokens["reporter"])
    told = run("--config", str(config), "registry", "check", "lab", "--notifications", "none")
    assert told.exit_code == 0, told.stderr
    with open_database(url, access=Access.READ) as database:
        kept = database.read_now(lambda connection: load_access(connection, "lab"))
    assert kept is not None
    assert (kept.user, kept.mode) == ("rita", Mode.PROJECT)


def test_a_registry_of_another_gitlab_is_not_trusted(run: Run, gitlab: GitLab, tmp_path: Path) -> None:
    config = tmp_path / "regwarden.toml"
    config.write_text(
        f'[[registry]]\nname = "lab"\nkind = "gitlab"\nurl = "{gitlab.registry_url}"\n'
        'gitlab_url = "https://gitlab.example.com"\n'
    )
    told = run("--config", str(config), "registry", "check", "lab", "--notifications", "none")
    assert told.exit_code == 1
    assert "does not take tokens of gitlab.example.com" in told.stdout
