"""How is Regwarden told of the made-up GitLab? Its configuration, and a GitLab that owns any given repositories."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.gitlab_double.running import GitLab
from tests.gitlab_double.scenario import Scenario, sample
from tests.gitlab_double.state import Group, Project

NAME = "prod"


def write_block(folder: Path, gitlab: GitLab, *, token: str = "admin", scope: str = "") -> str:
    """The registry's section; the file of the named token is written. ``scope`` are more of its lines."""
    file = folder / f"token-{token}"
    file.write_text(gitlab.tokens[token])
    file.chmod(0o600)
    return (
        f'[[registry]]\nname = "{NAME}"\nkind = "gitlab"\nurl = "{gitlab.registry_url}"\n'
        f'gitlab_url = "{gitlab.url}"\npassword_file = "{file}"\n{scope}'
    )


def write_config(folder: Path, gitlab: GitLab, *, token: str = "admin", scope: str = "") -> Path:
    """A configuration file with that section alone."""
    path = folder / "regwarden.toml"
    path.write_text(write_block(folder, gitlab, token=token, scope=scope))
    return path


def scenario_of(repositories: Iterable[str]) -> Scenario:
    """People and tokens of the sample; a project for each repository that lies in no other, a group for each root."""
    usual, names = sample(), sorted(repositories)
    projects: list[str] = []
    for name in names:
        if not any(name.startswith(f"{project}/") for project in projects):
            projects.append(name)
    roots = sorted({name.partition("/")[0] for name in projects if "/" in name})
    members = next(group.members for group in usual.groups if group.path == "team")
    scenario = Scenario(
        users=usual.users,
        tokens=usual.tokens,
        groups=[Group(1000 + number, root, members=members) for number, root in enumerate(roots)],
        projects=[Project(2000 + number, path) for number, path in enumerate(projects)],
    )
    for name in names:
        scenario.ensure_repository(name)
    return scenario


def pushing_scopes(gitlab: GitLab) -> list[str]:
    """The scopes with which the right to push was asked for."""
    return [scope for one in gitlab.requests for scope in one.scopes if "push" in scope]


def changing_requests(gitlab: GitLab, allowed: Sequence[str] = ("/api/graphql",)) -> list[str]:
    """What was asked that could change something."""
    return [
        f"{one.method} {one.path}"
        for one in gitlab.requests
        if one.method not in ("GET", "HEAD") and one.path not in allowed
    ]


def count_requests(gitlab: GitLab, part: str, text: str = "") -> int:
    """How often a part was asked for a path with this in it."""
    return sum(one.part == part and text in one.path for one in gitlab.requests)
