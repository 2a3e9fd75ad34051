"""Which actions does the issuer grant whom, and what does it say of a repository? The table of GitLab's rules."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from tests.gitlab_double.scenario import Scenario
from tests.gitlab_double.state import (
    ADMIN,
    DEVELOPER,
    GUEST,
    MAINTAINER,
    REPORTER,
    ROLE_NUMBERS,
    Project,
    Token,
    User,
)

PULL_SCOPES = frozenset({"api", "read_api", "read_registry"})
PUSH_SCOPES = frozenset({"api", "write_registry"})
KNOWN_ACTIONS = ("pull", "push", "delete", "*")
AUTH_TYPES = {"personal": "personal_access_token", "deploy": "deploy_token", "job": "build", "oauth": "oauth"}


class PushRefused(Exception):
    """A push to a protected path: the one refusal that is an error of the whole request."""


@dataclass(frozen=True)
class Holder:
    """Who asks for a token: nobody, a user with the password, or the holder of a token."""

    user: User | None = None
    token: Token | None = None

    @property
    def is_known(self) -> bool:
        return self.user is not None or self.token is not None

    @property
    def auth_type(self) -> str:
        return "gitlab_or_ldap" if self.token is None else AUTH_TYPES[self.token.kind]

    def has_scope(self, wanted: Iterable[str]) -> bool:
        """Whether the credential allows what these scopes allow; passwords allow all."""
        return self.token is None or self.token.kind == "job" or bool(set(wanted) & set(self.token.scopes))


def may_read(scenario: Scenario, user: User | None, project: Project) -> bool:
    """Whether somebody may read the project's container registry (``read_container_image``)."""
    role = scenario.role(user, project)
    if not scenario.settings.registry_is_enabled or project.registry_access == "disabled":
        return False
    if project.registry_access == "private":
        return role >= REPORTER
    if project.visibility == "public":
        return True
    if project.visibility == "internal":
        return user is not None
    return role >= REPORTER


def is_visible(scenario: Scenario, user: User | None, project: Project) -> bool:
    """Whether somebody is to know that the project exists."""
    if project.visibility == "public" or (project.visibility == "internal" and user is not None):
        return True
    return scenario.role(user, project) >= GUEST


def _is_bound(token: Token, project: Project) -> bool:
    """Whether a deploy token belongs to the project or to a group above it."""
    path = project.path.lower()
    return any(path == place.lower() or path.startswith(place.lower() + "/") for place in token.paths)


def _may_pull(scenario: Scenario, holder: Holder, project: Project) -> bool:
    if not holder.has_scope(PULL_SCOPES):
        return False
    token = holder.token
    if token is not None and token.kind == "deploy":
        return _is_bound(token, project) or may_read(scenario, None, project)
    if token is not None and token.kind == "job":
        return project.path in token.paths or may_read(scenario, None, project)
    return may_read(scenario, holder.user, project)


def _may_push(scenario: Scenario, holder: Holder, project: Project) -> bool:
    token = holder.token
    if not holder.is_known or project.registry_access == "disabled" or not holder.has_scope(PUSH_SCOPES):
        return False
    if token is not None and token.kind == "deploy":
        return _is_bound(token, project)
    if token is not None and token.kind == "job":
        return project.path == token.paths[0]
    return scenario.role(holder.user, project) >= DEVELOPER


def _may_delete(scenario: Scenario, holder: Holder, project: Project, action: str) -> bool:
    token = holder.token
    if project.registry_access == "disabled":
        return False
    if token is not None and token.kind == "deploy":
        return False
    if token is not None and token.kind == "job":
        return action == "delete" and project.path == token.paths[0]
    return holder.has_scope({"api"}) and scenario.role(holder.user, project) >= MAINTAINER


def granted_actions(
    scenario: Scenario, holder: Holder, project: Project, *, path: str, asked: Iterable[str]
) -> list[str]:
    """Those of the asked actions that are granted for a repository; raises ``PushRefused``."""
    found = []
    for action in asked:
        if action == "pull":
            is_granted = _may_pull(scenario, holder, project)
        elif action == "push":
            is_granted = _may_push(scenario, holder, project)
            if is_granted and _is_push_protected(scenario, holder, project, path):
                raise PushRefused
        else:
            is_granted = action in KNOWN_ACTIONS and _may_delete(scenario, holder, project, action)
        if is_granted:
            found.append(action)
    return found


def _is_push_protected(scenario: Scenario, holder: Holder, project: Project, path: str) -> bool:
    role = scenario.role(holder.user, project)
    return any(
        role < ROLE_NUMBERS[rule.push] and fnmatchcase(path.lower(), rule.pattern.lower())
        for rule in project.repository_rules
    )


def is_delete_protected(scenario: Scenario, user: User | None, project: Project, path: str) -> bool:
    """Whether a rule keeps the user from deleting the repository as a whole."""
    role = scenario.role(user, project)
    return any(
        role < ROLE_NUMBERS[rule.delete] and fnmatchcase(path.lower(), rule.pattern.lower())
        for rule in project.repository_rules
    )


def meta(scenario: Scenario, holder: Holder, project: Project) -> dict[str, Any]:
    """What the registry is told of the project: its ids, and the expressions that protect tags from this holder."""
    root = project.path.split("/")[0]
    group = scenario.group(root)
    person = scenario.user(root)
    namespace = group.id if group is not None else 1000 + (person.id if person is not None else 0)
    found: dict[str, Any] = {
        "project_path": project.path.lower(),
        "project_id": project.id,
        "root_namespace_id": namespace,
    }
    role = scenario.role(holder.user, project)
    mutable = [rule for rule in project.tag_rules if not rule.is_immutable]
    if mutable:
        found["tag_deny_access_patterns"] = {
            "push": [rule.pattern for rule in mutable if role < ADMIN and role < ROLE_NUMBERS[rule.push]],
            "delete": [rule.pattern for rule in mutable if role < ADMIN and role < ROLE_NUMBERS[rule.delete]],
        }
    immutable = [rule.pattern for rule in project.tag_rules if rule.is_immutable]
    if immutable and scenario.settings.has_immutable_licence:
        found["tag_immutable_patterns"] = immutable
    return found
