"""What a name written by a person or found in a document refers to: registry, repository, tag, digest.

The grammar is that of https://github.com/distribution/reference; no default registry and no ``library/`` is added.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from docker_image import digest as docker_digest
from docker_image import reference as docker_reference
from docker_image.regexp import ImageRegexps

from regwarden.core.oci.digests import Digest
from regwarden.errors import InputError

MAX_REFERENCE_LENGTH: Final = 1024
MAX_REPOSITORY_LENGTH: Final = 255
MAX_TAG_LENGTH: Final = 128

# With a host in front, the grammar cannot take the first part of the repository for one.
_HOST: Final = "registry.invalid/"
_HINT: Final = "A reference is [REGISTRY/]REPOSITORY[:TAG][@DIGEST], for example team/app:1.0."
_WRONG_FORMAT: Final = "it is not of the form [REGISTRY/]REPOSITORY[:TAG][@DIGEST]"


@dataclass(frozen=True, slots=True)
class Reference:
    """A parsed reference; ``registry`` is a configured name or a host with optional port, as it was written."""

    registry: str | None
    repository: str
    tag: str | None = None
    digest: Digest | None = None

    def __str__(self) -> str:
        registry = f"{self.registry}/" if self.registry else ""
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{registry}{self.repository}{tag}{digest}"


def parse_reference(text: str, *, known_registries: Collection[str] = ()) -> Reference:
    """Read ``[REGISTRY/]REPOSITORY[:TAG][@DIGEST]``.

    The first part is a registry if it is one of ``known_registries`` (names or ``host[:port]``) or looks like a
    host (see ``split_registry``). ``str()`` of the result is ``text`` again. Raises ``InputError`` (code
    ``bad-reference`` or, for the digest, ``bad-digest``), never anything else.
    """
    _check_text(text)
    registry, rest = split_registry(text, known_registries=known_registries)
    parsed = _parse_without_registry(rest, text)
    digest = parsed["digest"]
    return Reference(registry, parsed.repository["path"], parsed["tag"], Digest.parse(digest) if digest else None)


def parse_repository_name(text: str) -> str:
    """Check the name of a repository, without registry, tag or digest, and return it; raises ``InputError``."""
    _check_text(text)
    parsed = _parse_without_registry(text, text)
    if parsed["tag"] or parsed["digest"]:
        raise _bad(text, "it has a tag or a digest", hint="Give the name of the repository alone.")
    return text


def parse_tag_name(text: str) -> str:
    """Check a tag and return it; raises ``InputError`` (code ``bad-reference``)."""
    if ImageRegexps.TAG_REGEXP.fullmatch(text) is None:
        raise InputError(
            f"{text[:160]!r} is not a tag",
            hint=f"A tag has letters, digits, '_', '.' and '-', at most {MAX_TAG_LENGTH} of them.",
            code="bad-reference",
        )
    return text


def split_registry(text: str, *, known_registries: Collection[str] = ()) -> tuple[str | None, str]:
    """Split a leading registry from the rest of a reference or selector.

    The part before the first slash is a registry if it is known or if it has the form of a host and is
    ``localhost`` or contains a dot or a colon (a repository whose first part contains a dot therefore needs its
    registry in front). Nothing is raised: whatever does not look like a registry belongs to the rest.
    """
    first, slash, rest = text.partition("/")
    if slash and (first in known_registries or _looks_like_host(first)):
        return first, rest
    return None, text


def _looks_like_host(text: str) -> bool:
    if text != "localhost" and "." not in text and ":" not in text:
        return False
    return ImageRegexps.DOMAIN_REGEXP.fullmatch(text) is not None


def _check_text(text: str) -> None:
    if not text:
        raise _bad(text, "it is empty")
    if len(text) > MAX_REFERENCE_LENGTH:
        raise _bad(text, f"it has {len(text)} characters, the limit is {MAX_REFERENCE_LENGTH}")
    if not text.isascii() or not text.isprintable():
        raise _bad(text, "it contains a character that no reference has")


def _parse_without_registry(rest: str, text: str) -> docker_reference.Reference:
    try:
        parsed = docker_reference.Reference.parse(_HOST + rest)
    except docker_reference.NameContainsUppercase:
        raise _bad(text, "repository names are lower case") from None
    except docker_reference.NameTooLong:
        raise _bad(text, f"a repository name has at most {MAX_REPOSITORY_LENGTH} characters") from None
    except docker_reference.InvalidReference:
        raise _bad(text, _WRONG_FORMAT) from None
    except docker_digest.InvalidDigest:
        raise _bad(text, "its digest is incomplete or of an unknown algorithm") from None
    if f"{parsed.repository['domain']}/" != _HOST:
        raise _bad(text, _WRONG_FORMAT)
    return parsed


def _bad(text: str, reason: str, *, hint: str = _HINT) -> InputError:
    return InputError(f"{text[:160]!r} is not a reference: {reason}", hint=hint, code="bad-reference")
