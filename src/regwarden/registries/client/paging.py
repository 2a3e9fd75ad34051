"""How do lists continue? ``Link`` headers that are safe to follow, page bodies, names and tags that can be used.

Source: OCI distribution specification, "Listing Tags" and "Content Discovery"; traps in ``distribution/README.md``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec
from multidict import MultiDictProxy
from yarl import URL

from regwarden.errors import RegistryProtocolError
from regwarden.registries.client.diagnostics import Answer

_LINK: Final = re.compile(r'<([^<>]{0,8000})>\s*;[^<]{0,200}?rel\s*=\s*"?next\b', re.IGNORECASE)
_COMPONENT: Final = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_REPOSITORY: Final = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_MAX_REPOSITORY_LENGTH: Final = 255


class _Catalog(msgspec.Struct):
    repositories: list[object] | None


class _Tags(msgspec.Struct):
    tags: list[object] | None


_decode_catalog = msgspec.json.Decoder(_Catalog).decode
_decode_tags = msgspec.json.Decoder(_Tags).decode


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list: how many entries it had, those that are usable, and the last one whatever it is."""

    entry_count: int
    names: tuple[str, ...]
    last: str

    @property
    def doubt(self) -> str:
        """Why this page is not all there is; empty when every entry could be used."""
        skipped = self.entry_count - len(self.names)
        return f"{skipped} entries are not valid names and were skipped" if skipped else ""


def parse_catalog_page(answer: Answer) -> Page:
    """Read a page of ``/v2/_catalog``; raises ``RegistryProtocolError`` when it is none."""
    try:
        entries = _decode_catalog(answer.body).repositories
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise _not_a_page("the catalog") from None
    return _page(entries, is_repository)


def parse_tags_page(answer: Answer, repository: str) -> Page:
    """Read a page of ``tags/list`` (``null`` means none); raises ``RegistryProtocolError`` when it is none."""
    try:
        entries = _decode_tags(answer.body).tags
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise _not_a_page(f"the tags of {repository}") from None
    return _page(entries, is_tag)


def is_repository(name: str) -> bool:
    """Whether this is a repository name of the distribution specification (and safe in a path)."""
    return len(name) <= _MAX_REPOSITORY_LENGTH and _REPOSITORY.fullmatch(name) is not None


def is_tag(name: str) -> bool:
    """Whether this is a tag of the distribution specification."""
    return _TAG.fullmatch(name) is not None


def next_link(answer: Answer) -> str:
    """The target of the ``Link`` header with ``rel="next"`` (RFC 8288) as it stands there; empty without one."""
    header = answer.headers.get("Link", "")
    match = _LINK.search(header) if header else None
    return "" if match is None else match[1]


def next_page(answer: Answer, request_url: URL, prefix: str) -> MultiDictProxy[str] | None:
    """The query of the next page, or ``None`` where the answer names none.

    A link is followed only to the same origin and path as the request (``prefix`` may be missing: a proxy adds it);
    anything else raises ``RegistryProtocolError``.
    """
    link = next_link(answer)
    if not link:
        return None
    try:
        target = request_url.join(URL(link))
        is_same = target.origin() == request_url.origin()
    except ValueError:
        is_same = False
    if not is_same or target.path not in {request_url.path, request_url.path.removeprefix(prefix)}:
        raise RegistryProtocolError(
            f"the next page is said to be elsewhere, at {link[:120]!r}, which is not followed",
            hint="The registry or a proxy before it builds wrong links.",
            code="foreign-link",
        )
    return target.query


def _page(entries: list[object] | None, is_valid: Callable[[str], bool]) -> Page:
    found = entries or []
    names = tuple(entry for entry in found if isinstance(entry, str) and is_valid(entry))
    last = found[-1] if found else ""
    return Page(len(found), names, last if isinstance(last, str) else "")


def _not_a_page(subject: str) -> RegistryProtocolError:
    return RegistryProtocolError(f"the answer for {subject} is not a list in JSON", temporary=True)
