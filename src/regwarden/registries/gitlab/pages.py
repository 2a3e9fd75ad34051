"""How do GitLab's lists continue? By page number or by a cursor; from an answer only numbers and cursors are taken.

Source: GitLab REST API, "Pagination". Links name the host of GitLab's own settings and repeat parameters of the path;
totals disappear above 10,000 rows: neither is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Generic, TypeVar

import msgspec
from yarl import URL

from regwarden.errors import RegistryProtocolError
from regwarden.registries.client.diagnostics import Answer
from regwarden.registries.client.paging import next_link

T = TypeVar("T")

_CURSORS: Final = ("last", "cursor", "id_after", "id_before", "marker")
_MAX_CURSOR_LENGTH: Final = 2000
_MAX_PAGES: Final = 20_000
_MAX_BARREN_PAGES: Final = 2

_decode_rows = msgspec.json.Decoder(list[msgspec.Raw]).decode


class ListReader(Generic[T]):
    """Reads the pages of one list, each row as ``shape``, and sees to it that it comes to an end.

    ``subject`` names the list for people.
    """

    def __init__(self, shape: type[T], subject: str) -> None:
        self._decode = msgspec.json.Decoder(shape).decode
        self._subject = subject
        self._seen: set[int] = set()
        self._pages = 0
        self._barren_pages = 0

    def read(self, answer: Answer) -> tuple[T, ...]:
        """The rows of a page. Raises ``RegistryProtocolError`` for what is no list, and for a list without an end.

        Rows may come twice, where others came in meanwhile; two pages in a row without a single new row are too much.
        """
        try:
            raw_rows = _decode_rows(answer.body)
            rows = tuple(self._decode(raw) for raw in raw_rows)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            raise unreadable(self._subject) from None
        before = len(self._seen)
        self._seen.update(hash(bytes(raw)) for raw in raw_rows)
        self._pages += 1
        self._barren_pages = self._barren_pages + 1 if len(self._seen) == before else 0
        return rows

    def check_progress(self) -> None:
        """Raise ``RegistryProtocolError`` if another page is not worth asking for; called when there should be one."""
        if self._barren_pages >= _MAX_BARREN_PAGES or self._pages >= _MAX_PAGES:
            raise RegistryProtocolError(
                f"GitLab's list of {self._subject} has no end: its pages bring nothing new",
                hint="What was read of it is not all there is; try again later.",
                code="page-loop",
            )


def next_number(answer: Answer, number: int, *, is_full: bool) -> int | None:
    """The number of the page after page ``number``; ``None`` where it was the last.

    ``is_full``: it has as many rows as were asked for. Then another is asked for where nothing says that it was the
    last, in case that a proxy dropped the headers.
    """
    header = answer.headers.get("X-Next-Page")
    said = (header or "").strip()
    if not said:
        return number + 1 if next_link(answer) or (is_full and header is None) else None
    if said.isascii() and said.isdigit() and number < int(said[:9]):
        return int(said[:9])
    message = f"GitLab names {said[:20]!r} as the page after page {number}"
    raise RegistryProtocolError(message, code="page-loop")


def next_cursor(answer: Answer, *, is_full: bool) -> Mapping[str, str] | None:
    """The parameters that lead to the next page of a keyset list; ``None`` where it was the last.

    Raises ``RegistryProtocolError`` for a link that leads nowhere, and for a page that ``is_full`` and has none.
    """
    link = next_link(answer)
    if not link:
        if is_full:
            raise RegistryProtocolError(
                "GitLab names no next page after a full one",
                hint="What was read is perhaps not all there is; a proxy may drop the header Link.",
            )
        return None
    try:
        query = URL(link).query
    except ValueError:
        query = URL().query
    found = {name: query[name] for name in _CURSORS if query.get(name)}
    if not found or any(len(value) > _MAX_CURSOR_LENGTH for value in found.values()):
        raise RegistryProtocolError("GitLab's link to the next page has no cursor that can be used")
    return found


def unreadable(subject: str) -> RegistryProtocolError:
    """The error for an answer that is not the JSON that was expected."""
    return RegistryProtocolError(
        f"the answer for {subject} is not what GitLab's API promises",
        hint="Check gitlab_url; a proxy may have answered.",
    )
