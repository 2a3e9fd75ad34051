"""To which group does a repository belong, when figures are asked for by project, group, owner or path?"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

from regwarden.errors import InputError

MAX_DEPTH: Final = 64
NO_GROUP: Final = "(none)"
"""What people read where a repository belongs to no group; programs read null."""


class GroupBy(StrEnum):
    """What repositories are put together by."""

    PROJECT = "project"
    GROUP = "group"
    OWNER = "owner"
    PATH = "path"


class Membership(NamedTuple):
    """Where one repository belongs; ``None`` where the registry has no projects, or it is not known."""

    repository: str
    project: str | None = None
    group: str | None = None
    owner: str | None = None


def parse_group_by(text: str) -> GroupBy:
    """What figures are asked for by. Raises ``InputError``."""
    try:
        return GroupBy(text)
    except ValueError:
        raise InputError(f"{text[:80]!r} is nothing to group by", hint=f"There are: {', '.join(GroupBy)}.") from None


def check_depth(by: GroupBy, depth: int | None) -> int | None:
    """How many parts of a path make a group: those of ``depth``, or what is usual. Raises ``InputError``."""
    if depth is None:
        return 1 if by is GroupBy.PATH else None
    if by not in (GroupBy.GROUP, GroupBy.PATH):
        raise InputError(f"a depth does not go with {by}", hint="It cuts groups and paths: --group-by group --depth 1.")
    if not 1 <= depth <= MAX_DEPTH:
        raise InputError(f"a depth of {depth} is not possible", hint=f"Give a number from 1 to {MAX_DEPTH}.")
    return depth


def group_of(member: Membership, by: GroupBy, depth: int | None = None) -> str | None:
    """The group of a repository; of paths the first ``depth`` parts (``None``: all). Slashes divide them."""
    match by:
        case GroupBy.PROJECT:
            return member.project or None
        case GroupBy.OWNER:
            return member.owner or None
        case GroupBy.GROUP:
            return _cut(member.group, depth) if member.group else None
        case GroupBy.PATH:
            return _cut(member.repository, depth)


def _cut(path: str, depth: int | None) -> str:
    return path if depth is None else "/".join(path.split("/")[:depth])
