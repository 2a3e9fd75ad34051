"""What does a text name that somebody wants to run: a digest, a tag of a repository, or just that text?

Short names are Docker's: ``nginx`` is ``docker.io/library/nginx``, and without tag and digest the tag is ``latest``.
A host is compared in lower case, without a final dot and without the port 443.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from regwarden.core.oci.digests import Digest
from regwarden.errors import InputError

MAX_IMAGE_LENGTH: Final = 1024

_HEX: Final = re.compile(r"[0-9a-f]{64}")
_PART: Final = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
_PATH: Final = re.compile(rf"{_PART}(?:/{_PART})*")
_HOST: Final = re.compile(r"(?:[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
# What Kubernetes writes in front in the status of containers.
_RUNTIMES: Final = ("docker-pullable://", "docker://", "containerd://", "cri-o://")
_DOCKER_HOST: Final = "docker.io"
_DOCKER_HOSTS: Final = frozenset({_DOCKER_HOST, "index.docker.io", "registry-1.docker.io"})
_DOCKER_LIBRARY: Final = f"{_DOCKER_HOST}/library/"

Synonyms = Mapping[str, tuple[str, ...]]

_NO_SYNONYMS: Final[Synonyms] = MappingProxyType({})


class Image(NamedTuple):
    """What a text names.

    ``digest`` is in the stored form, of a manifest or a config. ``names`` are HOST/REPOSITORY in the form that is
    compared: its own first, then those under other hosts of the same registry; ``spellings`` are all under which a
    pattern may know it. Both are empty where the text names no repository. ``tag`` is empty where it has a digest and
    no tag, or is no reference.
    """

    text: str
    digest: bytes | None = None
    names: tuple[str, ...] = ()
    spellings: tuple[str, ...] = ()
    tag: str = ""

    @property
    def is_tag_question(self) -> bool:
        """Whether only what a tag points to decides what would run."""
        return self.digest is None and bool(self.names)

    @property
    def references(self) -> tuple[str, ...]:
        """``HOST/REPOSITORY:TAG`` in the form that is compared, under each name."""
        return tuple(f"{name}:{self.tag}" for name in self.names) if self.tag else ()


def parse_image(text: str, synonyms: Synonyms = _NO_SYNONYMS) -> Image:
    """Read what somebody names.

    64 hexadecimal digits and ``sha256:…`` are a digest, ``[HOST/]REPOSITORY[:TAG][@DIGEST]`` is a reference (the
    grammar of https://github.com/distribution/reference); anything else stands for itself. ``synonyms`` has, for a
    host, the others of the same registry. Raises ``InputError`` (code ``bad-image``) for what no list can hold.
    """
    if not text or len(text) > MAX_IMAGE_LENGTH or not text.isprintable() or text != text.strip():
        raise InputError(
            f"{text[:80]!r} cannot be the name of an image",
            hint=f"Give a digest or a reference, at most {MAX_IMAGE_LENGTH} characters without control characters.",
            code="bad-image",
        )
    rest = text
    for prefix in _RUNTIMES:
        rest = rest.removeprefix(prefix)
    if (bare := parse_digest(rest)) is not None:
        return Image(text, bare)
    named, at, digest_text = rest.partition("@")
    digest = parse_digest(digest_text) if at and ":" in digest_text else None
    if at and digest is None:
        return Image(text)
    name, tag = _split_tag(named)
    host, path = _split_host(name)
    if tag is None or _PATH.fullmatch(path) is None or (host and _HOST.fullmatch(host) is None):
        return Image(text, digest)
    if not tag and digest is None:
        tag = "latest"
    names = _names(host, path, synonyms)
    return Image(text, digest, names, tuple(dict.fromkeys((name, *_spellings(names)))), tag)


def parse_digest(text: str) -> bytes | None:
    """The stored form of a digest with or, for SHA-256, without its algorithm; ``None`` if ``text`` is none."""
    if _HEX.fullmatch(text):
        return b"\x01" + bytes.fromhex(text)
    if not text.startswith(("sha256:", "sha512:")):
        return None
    try:
        return Digest.parse(text).to_bytes()
    except InputError:
        return None


def compared_host(text: str) -> str:
    """A host as it is compared: lower case, without a final dot and the port of https."""
    host = text.lower().removesuffix(":443").removesuffix(".")
    return _DOCKER_HOST if host in _DOCKER_HOSTS else host


def host_of(text: str) -> str:
    """The host, with its port, of an address or of a host with or without a path."""
    return (text.partition("://")[2] or text).partition("/")[0].rpartition("@")[2]


def _split_tag(text: str) -> tuple[str, str | None]:
    """The name and the tag (empty: none); ``None`` for a tag that none can be."""
    head, colon, tag = text.rpartition(":")
    if not colon or "/" in tag:
        return text, ""
    return head, tag if _TAG.fullmatch(tag) else None


def _split_host(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    if slash and (first == "localhost" or "." in first or ":" in first or first != first.lower()):
        return compared_host(first), rest
    return "", name


def _names(host: str, path: str, synonyms: Synonyms) -> tuple[str, ...]:
    if not host or host == _DOCKER_HOST:
        name = f"{_DOCKER_HOST}/{path}" if "/" in path else f"{_DOCKER_LIBRARY}{path}"
        return (name, *(f"{other}/{name.partition('/')[2]}" for other in synonyms.get(_DOCKER_HOST, ())))
    return (f"{host}/{path}", *(f"{other}/{path}" for other in synonyms.get(host, ())))


def _spellings(names: tuple[str, ...]) -> list[str]:
    """Each name, and those of Docker's registry also as people shorten them."""
    found = []
    for name in names:
        found.append(name)
        if name.startswith(f"{_DOCKER_HOST}/"):
            found.append(name.removeprefix(f"{_DOCKER_HOST}/"))
        if name.startswith(_DOCKER_LIBRARY):
            short = name.removeprefix(_DOCKER_LIBRARY)
            found += [short, f"{_DOCKER_HOST}/{short}"]
    return found
