"""Who may do what, and to which repositories? The one table of permissions; everything that is refused is refused here.

A role is a set of permissions. A grant gives a role in an area: registries and repositories by pattern. What a
principal may not even see is hidden, so that nobody learns by asking what there is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from regwarden.core.patterns import Pattern


class Permission(StrEnum):
    """One thing that can be permitted. Every route of the web interface names exactly one."""

    INVENTORY_READ = "inventory:read"
    EVENTS_READ = "events:read"
    PLANS_READ = "plans:read"
    PLANS_CREATE = "plans:create"
    PLANS_APPROVE = "plans:approve"
    PLANS_APPLY = "plans:apply"
    PROTECTIONS_READ = "protections:read"
    PROTECTIONS_WRITE = "protections:write"
    CRAWLS_START = "crawls:start"
    REGISTRIES_CHECK = "registries:check"
    EVENTS_REPLAY = "events:replay"
    ALLOW_READ = "allow:read"
    ALLOW_WRITE = "allow:write"
    AUDIT_READ = "audit:read"
    TOKENS_MANAGE = "tokens:manage"


class Role(StrEnum):
    """What people and programs are; see ``ROLE_PERMISSIONS``."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    CLEANER = "cleaner"
    APPROVER = "approver"
    ADMIN = "admin"


_READING: Final = frozenset(
    {
        Permission.INVENTORY_READ,
        Permission.EVENTS_READ,
        Permission.PLANS_READ,
        Permission.PROTECTIONS_READ,
        Permission.ALLOW_READ,
    }
)

ROLE_PERMISSIONS: Final[Mapping[Role, frozenset[Permission]]] = {
    Role.VIEWER: _READING,
    Role.OPERATOR: _READING
    | {
        Permission.CRAWLS_START,
        Permission.REGISTRIES_CHECK,
        Permission.EVENTS_REPLAY,
        Permission.PROTECTIONS_WRITE,
        Permission.ALLOW_WRITE,
    },
    Role.CLEANER: _READING | {Permission.PLANS_CREATE, Permission.PLANS_APPLY, Permission.PROTECTIONS_WRITE},
    Role.APPROVER: _READING | {Permission.PLANS_APPROVE, Permission.AUDIT_READ},
    Role.ADMIN: frozenset(Permission),
}

# What belongs to no repository: asking for it takes a grant that is not limited to an area.
UNSCOPED: Final = frozenset(
    {Permission.AUDIT_READ, Permission.TOKENS_MANAGE, Permission.EVENTS_REPLAY, Permission.ALLOW_WRITE}
)


class PrincipalKind(StrEnum):
    """How a principal has shown who it is."""

    TOKEN = "token"  # noqa: S105 -- a kind, not a secret
    DIRECTORY = "directory"
    OIDC = "oidc"
    WORKLOAD = "workload"


# People whose name a directory or an identity provider answers for; only they count where several must agree.
PEOPLE: Final = frozenset({PrincipalKind.DIRECTORY, PrincipalKind.OIDC})


@dataclass(frozen=True, slots=True)
class Area:
    """A part of all repositories: those of matching registries whose name matches. Empty means all."""

    registries: tuple[Pattern, ...] = ()
    repositories: tuple[Pattern, ...] = ()

    @property
    def is_everything(self) -> bool:
        """Whether no repository, of now or later, lies outside."""
        return not self.registries and not self.repositories

    def has_registry(self, registry: str) -> bool:
        """Whether repositories of this registry can lie inside."""
        return not self.registries or any(pattern.matches(registry) for pattern in self.registries)

    def has(self, registry: str, repository: str) -> bool:
        """Whether a repository lies inside."""
        return self.has_registry(registry) and (
            not self.repositories or any(pattern.matches(repository) for pattern in self.repositories)
        )


@dataclass(frozen=True, slots=True)
class Reach:
    """All that a principal may do one thing to: the areas together. Without any it is nothing."""

    areas: tuple[Area, ...] = ()

    @property
    def is_everything(self) -> bool:
        """Whether nothing lies outside."""
        return any(area.is_everything for area in self.areas)

    def has(self, registry: str, repository: str) -> bool:
        """Whether a repository lies inside."""
        return any(area.has(registry, repository) for area in self.areas)

    def touches(self, registry: str) -> bool:
        """Whether repositories of this registry can lie inside."""
        return any(area.has_registry(registry) for area in self.areas)

    def has_all_of(self, registry: str) -> bool:
        """Whether every repository of a registry, of now or later, lies inside."""
        return any(not area.repositories and area.has_registry(registry) for area in self.areas)


EVERYTHING: Final = Reach((Area(),))


@dataclass(frozen=True, slots=True)
class Grant:
    """A role, in an area."""

    role: Role
    area: Area = Area()


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Somebody who has shown who they are.

    ``name`` is canonical: the directory's spelling, the issuer's subject, the token's name; it is what the audit says.
    ``id`` is unique among all kinds and never used again: ``token:…``, ``ldap:<entryUUID>``, ``oidc:<issuer>:<sub>``.
    """

    id: str
    name: str
    kind: PrincipalKind
    grants: tuple[Grant, ...] = ()
    display_name: str = ""

    @property
    def is_person(self) -> bool:
        """Whether this is one human being, signed in, and not a program."""
        return self.kind in PEOPLE


class Decision(StrEnum):
    """May it be done? ``hidden``: no, and not even that the thing exists may be told."""

    ALLOWED = "allowed"
    FORBIDDEN = "forbidden"
    HIDDEN = "hidden"


def reach(principal: Principal, permission: Permission) -> Reach:
    """Where ``principal`` has ``permission``."""
    found = Reach(tuple(grant.area for grant in principal.grants if permission in ROLE_PERMISSIONS[grant.role]))
    if permission in UNSCOPED and not found.is_everything:
        return Reach()
    return found


def decide(principal: Principal, permission: Permission, places: Sequence[tuple[str, str]] = ()) -> Decision:
    """Whether ``principal`` may do something to all of ``places`` (registry, repository).

    Without places it is about no repository in particular: the permission somewhere is enough, except for what
    belongs to no repository (``UNSCOPED``). A place of which nothing may be read is hidden.
    """
    granted = reach(principal, permission)
    if not places:
        return Decision.ALLOWED if granted.areas else Decision.FORBIDDEN
    if all(granted.has(*place) for place in places):
        return Decision.ALLOWED
    seen = reach(principal, Permission.INVENTORY_READ)
    return Decision.FORBIDDEN if all(seen.has(*place) for place in places) else Decision.HIDDEN


def permissions_of(principal: Principal) -> tuple[Permission, ...]:
    """Everything that ``principal`` may do somewhere, by name."""
    return tuple(sorted(permission for permission in Permission if reach(principal, permission).areas))


def narrower(asked: Sequence[Grant], by: Principal) -> bool:
    """Whether ``asked`` gives nothing that ``by`` does not have: nobody hands out more than their own.

    Areas are compared as written: an area lies in another only if that one is everything or has the same patterns.
    """
    return all(_has(by, grant) for grant in asked)


def _has(principal: Principal, grant: Grant) -> bool:
    return all(
        any(_lies_in(grant.area, area) for area in reach(principal, permission).areas)
        for permission in ROLE_PERMISSIONS[grant.role]
        if not (permission in UNSCOPED and not grant.area.is_everything)
    )


def _lies_in(inner: Area, outer: Area) -> bool:
    return all(
        not wide or (bool(narrow) and set(narrow) <= set(wide))
        for narrow, wide in ((inner.registries, outer.registries), (inner.repositories, outer.repositories))
    )
