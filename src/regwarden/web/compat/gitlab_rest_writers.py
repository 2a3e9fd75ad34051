"""How is a document written piece by piece, as JSON or as tables of HTML, without ever having all of it?"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any, Final, Protocol

import msgspec

HAL: Final = "application/hal+json"
HTML: Final = "text/html"


class Writer(Protocol):
    """Writes one object. Members are whole or begun; ``end`` ends what was begun last."""

    media_type: str
    size_bytes: int

    def begin(self) -> None:
        """The document itself."""

    def member(self, name: str, value: object) -> None:
        """A member of the open object."""

    def begin_member(self, name: str, *, is_list: bool = False) -> None:
        """A member that is an object or a list, and open now."""

    def begin_element(self) -> None:
        """An object in the open list, and open now."""

    def elements(self, values: Sequence[object]) -> None:
        """Some elements of the open list."""

    def end(self) -> None:
        """The end of what is open."""

    def take(self) -> bytes:
        """What was written since the last time."""


class _Pieces:
    """What both writers do: collect, and know how to close what is open."""

    def __init__(self) -> None:
        self.size_bytes = 0
        self._pieces: list[bytes] = []
        self._endings: list[bytes] = []

    def end(self) -> None:
        """The end of what is open."""
        self._put(self._endings.pop())

    def take(self) -> bytes:
        """What was written since the last time."""
        taken = b"".join(self._pieces)
        self._pieces.clear()
        self.size_bytes = 0
        return taken

    def _put(self, *pieces: bytes) -> None:
        self._pieces.extend(pieces)
        self.size_bytes += sum(map(len, pieces))


class JsonWriter(_Pieces):
    """JSON, compact."""

    media_type = HAL

    def __init__(self) -> None:
        super().__init__()
        self._encoder = msgspec.json.Encoder()
        self._is_first = True

    def begin(self) -> None:
        """The document itself."""
        self._open(b"{", b"}")

    def member(self, name: str, value: object) -> None:
        """A member of the open object."""
        self._separate()
        self._put(self._encoder.encode(name), b":", self._encoder.encode(value))

    def begin_member(self, name: str, *, is_list: bool = False) -> None:
        """A member that is an object or a list, and open now."""
        self._separate()
        self._put(self._encoder.encode(name), b":")
        self._open(*((b"[", b"]") if is_list else (b"{", b"}")))

    def begin_element(self) -> None:
        """An object in the open list, and open now."""
        self._separate()
        self._open(b"{", b"}")

    def elements(self, values: Sequence[object]) -> None:
        """Some elements of the open list."""
        if values:
            self._separate()
            self._put(self._encoder.encode(values)[1:-1])

    def end(self) -> None:
        """The end of what is open."""
        super().end()
        self._is_first = False

    def _open(self, beginning: bytes, ending: bytes) -> None:
        self._put(beginning)
        self._endings.append(ending)
        self._is_first = True

    def _separate(self) -> None:
        if not self._is_first:
            self._put(b",")
        self._is_first = False


class HtmlWriter(_Pieces):
    """Nested tables, for people; every text is escaped."""

    media_type = HTML

    def begin(self) -> None:
        """The document itself."""
        self._put(b'<!DOCTYPE html><html><head><meta charset="utf-8"></head><body><table border="1">')
        self._endings.append(b"</table></body></html>")

    def member(self, name: str, value: object) -> None:
        """A member of the open object."""
        self._put(_row(name, value).encode())

    def begin_member(self, name: str, *, is_list: bool = False) -> None:
        """A member that is an object or a list, and open now."""
        beginning, ending = ("<ul>", "</ul>") if is_list else ('<table border="1">', "</table>")
        self._put(f"<tr><th>{escape(name)}</th><td>{beginning}".encode())
        self._endings.append(f"{ending}</td></tr>".encode())

    def begin_element(self) -> None:
        """An object in the open list, and open now."""
        self._put(b'<li><table border="1">')
        self._endings.append(b"</table></li>")

    def elements(self, values: Sequence[object]) -> None:
        """Some elements of the open list."""
        self._put("".join(f"<li>{_cell(value)}</li>" for value in values).encode())


def _row(name: str, value: object) -> str:
    return f"<tr><th>{escape(name)}</th><td>{_cell(value)}</td></tr>"


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return f'<table border="1">{"".join(_row(name, inner) for name, inner in value.items())}</table>'
    if isinstance(value, list):
        return f"<ul>{''.join(f'<li>{_cell(inner)}</li>' for inner in value)}</ul>"
    return escape(str(value))
