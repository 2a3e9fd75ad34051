"""Who may do what in the made-up GitLab? The whole state, the questions everybody asks of it, and a sample."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.gitlab_double.state import (
    ADMIN,
    DEVELOPER,
    GUEST,
    LONG_AGO,
    MAINTAINER,
    OWNER,
    REPORTER,
    BulkJob,
    Group,
    Project,
    Repository,
    RepositoryRule,
    Settings,
    TagRule,
    Token,
    User,
)


@dataclass
class Scenario:
    """All that the double answers from; may be changed while it runs. Times are shifted by ``clock_offset``.

    ``external_url`` is what GitLab believes to be called, without slash at the end; ``registry_host`` the registry's
    ``host[:port]``. ``leases`` are until when bulk removals are refused, by repository id.
    """

    users: list[User] = field(default_factory=list)
    tokens: list[Token] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    projects: list[Project] = field(default_factory=list)
    repositories: list[Repository] = field(default_factory=list)
    settings: Settings = field(default_factory=Settings)
    external_url: str = "http://gitlab.example.com"
    registry_host: str = "registry.example.com"
    clock_offset: timedelta = timedelta()
    events: list[bytes] = field(default_factory=list)
    jobs: list[BulkJob] = field(default_factory=list)
    leases: dict[int, datetime] = field(default_factory=dict)

    def now(self) -> datetime:
        return datetime.fromtimestamp(time.time(), UTC) + self.clock_offset

    @property
    def secrets(self) -> dict[str, str]:
        """The tokens' secrets by the tokens' names."""
        return {token.name: token.secret for token in self.tokens}

    def token(self, name: str) -> Token:
        """The token of that name, to be changed."""
        return next(each for each in self.tokens if each.name == name)

    def user(self, name: str) -> User | None:
        """By user name or number, in any case."""
        wanted, number = name.lower(), _number(name)
        return next((each for each in self.users if each.id == number or each.username.lower() == wanted), None)

    def group(self, name: str) -> Group | None:
        """By full path or number, in any case."""
        wanted, number = name.lower(), _number(name)
        return next((each for each in self.groups if each.id == number or each.path.lower() == wanted), None)

    def project(self, name: str) -> Project | None:
        """By full path or number, in any case."""
        wanted, number = name.lower(), _number(name)
        return next((each for each in self.projects if each.id == number or each.path.lower() == wanted), None)

    def moved_project(self, name: str) -> Project | None:
        """The one that once had this path."""
        paths = ((each, [path.lower() for path in each.former_paths]) for each in self.projects)
        return next((each for each, former in paths if name.lower() in former), None)

    def repository(self, number: int) -> Repository | None:
        return next((each for each in self.repositories if each.id == number), None)

    def repositories_of(self, project: Project) -> list[Repository]:
        return [each for each in self.repositories if each.project_id == project.id]

    def project_of_path(self, repository_path: str) -> Project | None:
        """The project with the longest path that the repository's begins with; at most two levels below it."""
        parts = repository_path.split("/")
        if "*" in repository_path or repository_path != repository_path.lower():
            return None
        for length in range(len(parts), max(len(parts) - 3, 1), -1):
            project = self.project("/".join(parts[:length]))
            if project is not None and "/" in project.path:
                return project
        return None

    def ensure_repository(self, path: str) -> Repository | None:
        """The row of a repository, made as a push makes it; ``None`` if no project is there."""
        found = next((each for each in self.repositories if each.path == path), None)
        project = self.project_of_path(path)
        if found is not None or project is None:
            return found
        number = max((each.id for each in self.repositories), default=0) + 1
        found = Repository(number, path, project.id, created_at=self.now())
        self.repositories.append(found)
        return found

    def members_of(self, path: str, own: dict[str, int]) -> dict[str, int]:
        """Roles by user name at a path: its own, those inherited from groups, and the person whose namespace it is."""
        found: dict[str, int] = dict(own)
        for group in self._groups_above(path):
            for name, role in group.members.items():
                found[name] = max(found.get(name, 0), role)
        namespace = path.split("/", maxsplit=1)[0]
        if self.group(namespace) is None and (person := self.user(namespace)) is not None:
            found[person.username] = OWNER
        return found

    def _groups_above(self, path: str) -> Iterator[Group]:
        lowered = path.lower()
        return (each for each in self.groups if lowered == each.path.lower() or lowered.startswith(_below(each)))

    def role(self, user: User | None, place: Project | Group) -> int:
        """The number of a user's role, 0 for none; administrators have their own, above all."""
        if user is None:
            return 0
        return ADMIN if user.is_admin else self.members_of(place.path, place.members).get(user.username, 0)

    def groups_in(self, group: Group) -> list[Group]:
        """The group and all below it."""
        return [group, *(each for each in self.groups if each.path.lower().startswith(_below(group)))]

    def projects_in(self, group: Group) -> list[Project]:
        """Those of the group and of all groups below it."""
        return [each for each in self.projects if each.path.lower().startswith(_below(group))]


def _number(name: str) -> int | None:
    return int(name) if name.isdecimal() else None


def _below(group: Group) -> str:
    return group.path.lower() + "/"


def sample_policy() -> dict[str, Any]:
    """A cleanup policy as the API shows it."""
    return {
        "cadence": "7d",
        "enabled": True,
        "keep_n": 5,
        "older_than": "30d",
        "name_regex": ".*",
        "name_regex_keep": "(?:main|v.+)",
        "next_run_at": "2026-12-01T03:00:00.000Z",
    }


def sample() -> Scenario:
    """A small GitLab with one of everything. Names of tokens: see ``_tokens``."""
    scenario = Scenario(users=_users(), tokens=_tokens(), groups=_groups(), projects=_projects())
    for number, path in enumerate(
        (
            "team/app",
            "team/app/work",
            "team/app/worker",
            "team/web-ui",
            "team/sub/tool/cli",
            "ann/thing",
            "open/pub",
            "team/container_registry",
        ),
        start=1,
    ):
        project = scenario.project_of_path(path)
        assert project is not None
        created = LONG_AGO + timedelta(days=number)
        scenario.repositories.append(Repository(number, path, project.id, created_at=created))
    return scenario


def _users() -> list[User]:
    return [
        User(1, "root", is_admin=True, password="root-password"),
        User(2, "mia", password="mia-password"),
        User(3, "dev", password="dev-password"),
        User(4, "rita", password="rita-password"),
        User(5, "gus", password="gus-password"),
        User(6, "ann", password="ann-password"),
        User(7, "careful", password="careful-password", has_second_factor=True),
    ]


def _tokens() -> list[Token]:
    both = ("read_api", "read_registry")
    long_past, soon = LONG_AGO, datetime.fromtimestamp(time.time(), UTC) + timedelta(days=20)
    rows: list[tuple[str, str, tuple[str, ...], datetime | None, bool]] = [
        ("admin", "root", ("api",), None, False),
        ("admin-read", "root", both, soon, False),
        ("admin-read_registry", "root", ("read_registry",), None, False),
        ("maintainer", "mia", ("api",), None, False),
        ("maintainer-read", "mia", both, soon, False),
        ("developer", "dev", ("api",), None, False),
        ("reporter", "rita", both, None, False),
        ("reporter-api", "rita", ("api",), None, False),
        ("guest", "gus", ("api",), None, False),
        ("ann", "ann", ("api",), None, False),
        ("read_api", "mia", ("read_api",), None, False),
        ("read_registry", "mia", ("read_registry",), None, False),
        ("write_registry", "mia", ("write_registry",), None, False),
        ("read_user", "mia", ("read_user",), None, False),
        ("expired", "mia", ("api",), long_past, False),
        ("revoked", "mia", ("api",), None, True),
    ]
    found = [
        Token(number, name, f"glpat-{name}-{number:04}", user, scopes, expires_at=expires, is_revoked=revoked)
        for number, (name, user, scopes, expires, revoked) in enumerate(rows, start=1)
    ]
    job = Token(90, "job", "glcbt-job-0090", "dev", (), "job", paths=("team/app", "open/pub"))
    return [*found, job, Token(91, "deploy", "gldt-deploy-0091", "", ("read_registry",), "deploy", paths=("team",))]


def _groups() -> list[Group]:
    roles = {"mia": MAINTAINER, "dev": DEVELOPER, "rita": REPORTER, "gus": GUEST}
    return [
        Group(11, "team", members=roles, size=123_456_789),
        Group(12, "team/sub"),
        Group(13, "open", "public", {"mia": OWNER}, size=2_000_000, is_estimated=True),
    ]


def _projects() -> list[Project]:
    return [
        Project(101, "team/app", policy=sample_policy(), size=100_000_000, former_paths=["old/app"]),
        Project(102, "team/Web-UI", tag_rules=[TagRule(1, r"^v\d+", "maintainer", "owner")], size=20_000_000),
        Project(103, "team/sub/tool", tag_rules=[TagRule(2, "-final$")]),
        Project(104, "ann/thing", size=1_000),
        Project(105, "open/pub", "public", repository_rules=[RepositoryRule(1, "open/pub*", "maintainer", "admin")]),
        Project(106, "team/container_registry"),
    ]
