"""How do the tests of real registries run behind a GitLab? A made-up one that is handled as any other registry.

``REGWARDEN_TEST_GITLAB`` names the mode: see ``tests/fixtures/distribution_servers.py`` (it hands these out then) and
``tests/gitlab_skips.py`` for what makes no sense there.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from regwarden.registries.client.credentials import Basic
from regwarden.registries.client.limits import Limits
from regwarden.registries.client.settings import ClientSettings
from regwarden.registries.gitlab.connector import GitLabConnector, open_gitlab
from regwarden.registries.gitlab.settings import GitLabSettings
from tests.crawling import BEHIND_GITLAB
from tests.fixtures.distribution_servers import RegistryServer, StartRegistry, build_endpoint
from tests.gitlab_double.door import Door
from tests.gitlab_double.events import build_receiver
from tests.gitlab_double.hosting import hosting
from tests.gitlab_double.modes import Mode
from tests.gitlab_double.online_collection import collect_online
from tests.gitlab_double.running import GitLab, running_gitlab
from tests.gitlab_double.scenario import Scenario, sample
from tests.gitlab_double.state import Group, Project, Repository

# Who Regwarden is: an administrator reads the catalog; a maintainer walks through the groups.
TOKENS: Mapping[Mode, str] = {"database": "admin", "files": "maintainer", "plain": "admin"}


@dataclass
class Everywhere(Scenario):
    """A GitLab in which every path of two parts or more belongs to a project, made as soon as somebody pushes there."""

    def ensure_repository(self, path: str) -> Repository | None:
        """As it is, with a project where there was none."""
        if self.project_of_path(path) is None:
            parts = path.split("/")
            assert len(parts) > 1, f"no project of a GitLab can have the repository {path}"
            place = "/".join(parts[: max(len(parts) - 2, 2)])
            if self.group(parts[0]) is None:
                self.groups.append(Group(1000 + len(self.groups), parts[0], members=self.groups[0].members))
            self.projects.append(Project(2000 + len(self.projects), place))
        return super().ensure_repository(path)


class GitLabServer(RegistryServer):
    """A GitLab with its registry, in the place of a registry by itself. ``gitlab`` is the double."""

    def __init__(self, gitlab: GitLab, door: Door, address: str, receiver: str) -> None:
        inner = gitlab.registry
        self.root, self.program, self.config = inner.root, inner.program, inner.config
        self.log_path, self.access_log_path, self.config_path = inner.log_path, inner.access_log_path, inner.config_path
        self.host = address.partition("//")[2]
        self.gitlab = gitlab
        self._door, self._receiver, self._text = door, receiver, ""
        gitlab.scenario.registry_host = self.host
        self._token_file = inner.config_path.with_name("token")
        self._token_file.touch(0o600)
        self._token_file.write_text(self.token)

    @property
    def token(self) -> str:
        """Regwarden's."""
        return self.gitlab.tokens[TOKENS[self.gitlab.mode]]

    @property
    def is_running(self) -> bool:
        return self.gitlab.registry.is_running

    @property
    def pasted(self) -> str:
        """YAML of the notifications, as a person would paste it."""
        return self._text

    @pasted.setter
    def pasted(self, text: str) -> None:
        self._text = text
        sections = yaml.safe_load(text) or {}
        assert set(sections) <= {"notifications"}, sections
        self.notify(sections.get("notifications", {}).get("endpoints", ()))

    def notify(self, endpoints: Sequence[Mapping[str, Any]]) -> None:
        """Whom the registry tells of events from its next start on."""
        targets = [(each["url"], _authorization(each)) for each in endpoints]
        if self.gitlab.mode == "database":
            endpoints = [{**each, "url": self._receiver, "headers": {}} for each in endpoints]
        self.gitlab.outbox.targets = [] if self.gitlab.mode == "plain" else targets
        self.config.pop("notifications", None)
        if endpoints:
            self.config["notifications"] = {"endpoints": list(endpoints)}

    def section(self, name: str) -> str:
        return (
            f'[[registry]]\nname = "{name}"\nkind = "gitlab"\nurl = "{self.url}"\n'
            f'gitlab_url = "{self.gitlab.url}"\npassword_file = "{self._token_file}"\n'
        )

    def connect(self, limits: Limits | None, settings: Mapping[str, Any]) -> GitLabConnector:
        """A connector with Regwarden's token."""
        credentials = Basic("regwarden", self.token)
        client = ClientSettings(self.url, **{"credentials": credentials, **settings})
        return open_gitlab(GitLabSettings(client, self.gitlab.url), limits)

    def start(self) -> None:
        self.gitlab.registry.start()

    def stop(self) -> None:
        self.gitlab.registry.stop()

    def kill(self) -> None:
        self.gitlab.registry.kill()
        self.gitlab.outbox.forget()

    def collect(self) -> None:
        """As without GitLab; the registry with a database removes by itself what no tag leads to any more."""
        if self.gitlab.mode == "database":
            collect_online(self.gitlab.storage)
        self.gitlab.registry.collect()
        self.gitlab.storage.forget()

    def _write_config(self) -> None:
        self.gitlab.registry._write_config()

    def access_log(self) -> list[str]:
        """The requests of clients so far, those that the registry itself was not asked included."""
        return list(self._door.lines)


def _authorization(endpoint: Mapping[str, Any]) -> str:
    value = endpoint.get("headers", {}).get("Authorization", "")
    return str(value if isinstance(value, str) else value[0])


@contextmanager
def starting(folder: Path, mode: Mode) -> Iterator[StartRegistry]:
    """What starts a GitLab with the options of ``docker_registry``; all are stopped at the end."""
    numbers = itertools.count(1)
    with ExitStack() as stack:

        def start(**options: Any) -> RegistryServer:
            place = folder / f"gitlab-{next(numbers)}"
            place.mkdir()
            return stack.enter_context(_running(place, mode, **options))

        yield start


@contextmanager
def _running(
    folder: Path,
    mode: Mode,
    *,
    root: Path | None = None,
    is_started: bool = True,
    pasted: str = "",
    **options: Any,
) -> Iterator[GitLabServer]:
    usual = sample()
    members = next(group.members for group in usual.groups if group.path == "team")
    scenario = Everywhere(users=usual.users, tokens=usual.tokens, groups=[Group(11, "team", members=members)])
    # Those to which Regwarden itself may push: there is a project before there is a repository.
    scenario.projects += [Project(101, "team/app"), Project(102, "team/lib")]
    with running_gitlab(folder, mode=mode, scenario=scenario, root=root) as gitlab, hosting() as host:
        for path in gitlab.storage.repositories():
            scenario.ensure_repository(path)
        door = Door(gitlab.registry_url, scenario.settings, scenario.ensure_repository)
        server = GitLabServer(
            gitlab, door, host.serve(door.build_app()), f"{host.serve(build_receiver(gitlab.outbox))}/events"
        )
        server.stop()
        _configure(server, **options)
        if pasted:
            server.pasted = pasted
        if is_started:
            server.start()
        BEHIND_GITLAB[server.url] = server.connect
        yield server
        del BEHIND_GITLAB[server.url]


def _configure(
    server: GitLabServer,
    *,
    can_delete: bool = True,
    notify: Sequence[str | Mapping[str, Any]] = (),
    settings: Mapping[str, Any] | None = None,
) -> None:
    """As ``build_config``; the address is the double's own."""
    server.config["storage"]["delete"]["enabled"] = can_delete
    server.notify([build_endpoint(number, entry) for number, entry in enumerate(notify)])
    for section, values in (settings or {}).items():
        if section != "http":
            server.config[section] = {**server.config.get(section, {}), **values}
