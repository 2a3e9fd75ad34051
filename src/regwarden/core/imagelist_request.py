"""What does a client of imagelist ask to put? Its JSON is read as Go's ``encoding/json`` reads it into a struct.

The first value of the body counts; keys match whatever their case, of several the last; unknown ones do not matter.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, NamedTuple, NoReturn

from regwarden.errors import InputError

# Ids and names stand in indexes; PostgreSQL has room for 2,700 bytes there.
MAX_NAME_BYTES: Final = 1_024
_SPACE: Final = re.compile(r"[ \t\n\r]*")
_SURROGATES: Final = re.compile("[\ud800-\udfff]")
_REPLACEMENT: Final = "\ufffd"


class PutRequest(NamedTuple):
    """An image to put; ``tags`` is None if the body has none, or null."""

    id: str
    name: str
    tags: tuple[str, ...] | None


def parse_put_request(body: bytes) -> PutRequest:
    """Read the body of ``PUT /images``. Raises ``InputError``."""
    found: dict[str, Any] = {"id": None, "name": None, "tags": None}
    for key, value in _first_object(body.decode(errors="replace")):
        field = key.casefold()
        # A null leaves a text as it is, and makes a list null.
        if field in found and (value is not None or field == "tags"):
            found[field] = _tags(value) if field == "tags" else _text(value, field)
    for field in ("id", "name"):
        if not found[field]:
            raise _bad(f"{field} is missing or empty")
        if len(found[field].encode()) > MAX_NAME_BYTES:
            raise _bad(f"{field} has more than {MAX_NAME_BYTES} bytes")
    return PutRequest(**found)


class _Object(list[tuple[str, Any]]):
    """The keys and values of a JSON object, in their order."""


def _first_object(text: str) -> _Object:
    decoder = json.JSONDecoder(
        object_pairs_hook=_Object, parse_int=_number, parse_float=_number, parse_constant=_no_constant
    )
    space = _SPACE.match(text)
    try:
        value, _ = decoder.raw_decode(text, space.end() if space else 0)
    except (ValueError, RecursionError):
        raise _bad("it is not JSON, or too deep") from None
    if not isinstance(value, _Object):
        raise _bad("it is not an object")
    return value


def _text(value: Any, field: str) -> str:
    if not isinstance(value, str):
        raise _bad(f"{field} is not a text")
    if "\0" in value:
        raise _bad(f"{field} has a character that cannot be kept")
    return _SURROGATES.sub(_REPLACEMENT, value)


def _tags(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, _Object) or not isinstance(value, list):
        raise _bad("tags are not a list")
    return tuple(_text(tag, "a tag") for tag in value)


def _number(_digits: str) -> int:
    """Some number: none is ever used, and long ones take long to read."""
    return 0


def _no_constant(name: str) -> NoReturn:
    message = f"{name} is not JSON"
    raise ValueError(message)


def _bad(message: str) -> InputError:
    return InputError(f"the image cannot be understood: {message}")
