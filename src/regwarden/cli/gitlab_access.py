"""How is it said what a token may do at a GitLab, and how its registry is read?"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from regwarden import clock
from regwarden.cli.values import human_duration
from regwarden.core.projects import Access, Features, Mode

_MODES: Final = {
    Mode.INSTANCE: "the whole instance",
    Mode.GROUP: "the groups that are named",
    Mode.PROJECT: "the projects that are named",
}
_FEATURES: Final = {
    Features.DATABASE: "its metadata database is on: up to 1,000 tags are read with one request",
    Features.FILES: "its metadata database is off: each tag is read by its manifest",
    Features.PLAIN: "it is not GitLab's own: each tag is read by its manifest",
    Features.UNKNOWN: "what it offers is not known: each tag is read by its manifest",
}
_RIGHTS: Final = {
    "can_list_catalog": "list the catalog",
    "can_read_projects": "read the projects",
    "can_untag": "remove tags",
    "can_delete": "delete manifests",
    "can_delete_repositories": "delete whole repositories",
}
_ROLES: Final = {"can_untag": "Developer", "can_delete": "Maintainer", "can_delete_repositories": "Maintainer"}


def access_lines(access: Access) -> Iterator[str]:
    """Who we are, what follows, and what is missing; one line each."""
    yield f"GitLab: {who_line(access.user, access.scopes, is_admin=access.is_admin)}"
    if access.expires_at is not None:
        yield expiry_line(access.expires_at)
    yield f"reads {_MODES[access.mode]}{_how(access)}"
    yield f"the registry: {_FEATURES[access.features]}"
    if can := [_with_role(name, access) for name in _RIGHTS if getattr(access, name) is True]:
        yield f"the token can {', '.join(can)}"
    if cannot := [words for name, words in _RIGHTS.items() if getattr(access, name) is False]:
        yield f"the token cannot {', '.join(cannot)}"
    for line in access.lacks:
        yield f"missing: {line}"
    for line in access.doubts:
        yield f"note: {line}"


def who_line(user: str, scopes: tuple[str, ...] | None, *, is_admin: bool | None) -> str:
    """Who a token belongs to and what it is for."""
    role = {True: ", an administrator", False: ", no administrator", None: ""}[is_admin]
    name = f"user {user}{role}" if user else "no user is known"
    return f"{name}; scopes of the token: {', '.join(scopes) or 'none'}" if scopes is not None else name


def expiry_line(expires_at: datetime) -> str:
    """When a token ends."""
    left = expires_at - clock.now()
    day = f"{expires_at:%Y-%m-%d}"
    return f"the token ends on {day}, in {human_duration(left)}" if left.total_seconds() > 0 else f"it ended on {day}"


def _with_role(right: str, access: Access) -> str:
    """The words of a right, with the role that its user needs in a project besides, which administrators do not."""
    is_everywhere = right not in _ROLES or access.is_admin is True
    return _RIGHTS[right] if is_everywhere else f"{_RIGHTS[right]} (where its user is {_ROLES[right]})"


def _how(access: Access) -> str:
    if access.mode is not Mode.INSTANCE:
        return ""
    if access.can_list_catalog:
        return ", from the catalog"
    return ", by walking groups and projects" if access.can_read_projects else ""
