"""In which groups is a user: those their entry names, those that name them, and the groups that have these in them?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Protocol

from regwarden.identity.ldap_errors import DirectoryError
from regwarden.identity.ldap_names import escape_filter, is_below, parse_dn
from regwarden.identity.ldap_protocol import EVERYTHING, Entry
from regwarden.settings_access import LdapSettings

MAX_GROUPS: Final = 1000
_MEMBERS_PER_SEARCH: Final = 50


class Reader(Protocol):
    """What is asked of a directory here; see ``ldap_protocol.Session``."""

    def search(self, top: str, query: str, attributes: Sequence[str], *, limit: int) -> list[Entry]:
        """Entries under ``top`` that match."""

    def read(self, dn: str, query: str, attributes: Sequence[str]) -> Entry | None:
        """One entry by its DN."""


def find_groups(reader: Reader, settings: LdapSettings, user: Entry) -> frozenset[str]:
    """The names and the DNs of a user's groups, up to ``group_depth`` above their own; loops end where they began.

    Where groups have a ``group_base``, those elsewhere do not count: whoever may make groups in some corner could
    otherwise give them the name of another. Raises ``DirectoryError`` whenever a group might be missing.
    """
    search = _GroupSearch(reader, settings)
    level: list[Entry] = [user]
    for _ in range(1 + settings.group_depth):
        level = search.groups_of(level)
        if not level:
            break
    return frozenset(search.names())


class _GroupSearch:
    """What was found so far; every group is read once."""

    def __init__(self, reader: Reader, settings: LdapSettings) -> None:
        self._reader = reader
        self._settings = settings
        self._seen: set[object] = set()
        self._found: list[Entry] = []
        wanted = (settings.group_name_attribute, settings.member_of_attribute)
        self._attributes = tuple(filter(None, wanted))

    def names(self) -> Iterator[str]:
        """Name and DN of each group."""
        for group in self._found:
            yield group.dn
            yield from group.texts(self._settings.group_name_attribute)

    def groups_of(self, members: Sequence[Entry]) -> list[Entry]:
        """The groups of these users or groups that were not met before."""
        new = [group for group in self._that_list(members) if self._is_new(group.dn)]
        for dn in self._named_by(members):
            if self._is_new(dn):
                group = self._reader.read(dn, EVERYTHING, self._attributes)
                # A group that is gone, or that the account may not see, gives nobody a role.
                new += [group] if group is not None else []
        self._found += new
        return new

    def _that_list(self, members: Sequence[Entry]) -> Iterator[Entry]:
        """Groups under ``group_base`` that list one of them."""
        if not self._settings.group_base:
            return
        attribute = self._settings.group_member_attribute
        for start in range(0, len(members), _MEMBERS_PER_SEARCH):
            listed = [f"({attribute}={escape_filter(one.dn)})" for one in members[start : start + _MEMBERS_PER_SEARCH]]
            query = listed[0] if len(listed) == 1 else f"(|{''.join(listed)})"
            found = self._reader.search(self._settings.group_base, query, self._attributes, limit=MAX_GROUPS)
            if len(found) >= MAX_GROUPS:
                raise DirectoryError(f"somebody is in {MAX_GROUPS} groups or more; name a smaller group_base")
            yield from found

    def _named_by(self, members: Iterable[Entry]) -> Iterator[str]:
        """DNs of groups that their members' entries name."""
        top = self._settings.group_base
        for member in members:
            for dn in member.texts(self._settings.member_of_attribute) if self._settings.member_of_attribute else ():
                if not top or is_below(dn, top):
                    yield dn

    def _is_new(self, dn: str) -> bool:
        key = parse_dn(dn) or dn
        if key in self._seen:
            return False
        self._seen.add(key)
        if len(self._seen) > MAX_GROUPS:
            raise DirectoryError(f"somebody is in more than {MAX_GROUPS} groups; name a smaller group_base")
        return True
