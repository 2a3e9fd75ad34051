"""What do the parameters of ``/api/v1`` mean that many routes have: names in paths, pages of lists?"""

from __future__ import annotations

from typing import Annotated, Final
from urllib.parse import unquote_to_bytes

from fastapi import Path, Query
from pydantic import BeforeValidator

MAX_LIMIT: Final = 1000
USUAL_LIMIT: Final = 100
_MOST_CHARACTERS: Final = 1000


def decode_segment(text: str) -> str:
    """The name that an encoded segment of a path stands for. Raises ``ValueError`` for what no name can be."""
    try:
        name = unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    if len(name) > _MOST_CHARACTERS:
        raise ValueError(f"it is longer than {_MOST_CHARACTERS} characters")
    if not name.isprintable():
        raise ValueError("it has characters that cannot be printed")
    return name


_Segment = BeforeValidator(decode_segment)

RegistryName = Annotated[str, Path(description="Name of a registry."), _Segment]
RepositoryName = Annotated[
    str, Path(description="Name of a repository in one segment: slashes are written %2F, as in team%2Fapp."), _Segment
]
TagName = Annotated[str, Path(description="Name of a tag."), _Segment]
DigestText = Annotated[str, Path(description="A digest, sha256:…, or at least its first six digits."), _Segment]
# For anything else that stands in a path: a number, the name of a token.
Segment = Annotated[str, _Segment]

Limit = Annotated[
    int, Query(ge=1, le=MAX_LIMIT, description=f"How many entries a page has, at most; 1 to {MAX_LIMIT}.")
]
Cursor = Annotated[
    str | None,
    Query(max_length=8000, description="Where the page before ended: follow the link `next` instead of making it."),
]
