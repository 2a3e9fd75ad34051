"""What does a token of GitLab's registry allow, and for how long? Its claims, read and not verified.

The registry verifies the signature; we only avoid asking for what is not granted. Source: GitLab's
``container_registry_authentication_service.rb`` (claims ``access``, ``iat``, ``exp``, and ``meta`` of an entry).
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

EVERYTHING: Final = ".*"
"""The pattern that stands for rules that cannot be read: they hold every tag."""

_MAX_TOKEN_LENGTH: Final = 512 * 1024
_MAX_ENTRIES: Final = 1024
_MAX_ACTIONS: Final = 16
_MAX_NAME_LENGTH: Final = 1024
_MAX_PATTERNS: Final = 256
_MAX_PATTERN_LENGTH: Final = 1024
_MAX_LIFETIME_SECONDS: Final = 24 * 3600.0
_MAX_NUMBER: Final = 2**53
_NO_META: Final[Mapping[str, object]] = {}


@dataclass(frozen=True, slots=True)
class TokenMeta:
    """What GitLab says of the project of a repository, for the user of this token.

    The patterns are RE2 expressions found anywhere in a tag: tags that may not be deleted or pushed by this user, and
    those that nobody may change. Rules that cannot be read are one pattern, ``EVERYTHING``.
    """

    project_id: int | None = None
    project_path: str = ""
    delete_deny_patterns: tuple[str, ...] = ()
    push_deny_patterns: tuple[str, ...] = ()
    immutable_patterns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Grant:
    """What is granted for one thing; ``meta`` is ``None`` where the token does not tell."""

    actions: frozenset[str]
    meta: TokenMeta | None = None

    def allows(self, actions: frozenset[str]) -> bool:
        """Whether all of ``actions`` are granted; ``*`` grants every one of them, as the registry sees it."""
        return "*" in self.actions or actions <= self.actions


@dataclass(frozen=True, slots=True)
class Grants:
    """The claims of a token; ``None`` is unknown. ``entries`` has a key (type, name) for each thing."""

    lifetime_seconds: float | None = None
    entries: Mapping[tuple[str, str], Grant] | None = None


class _Claims(msgspec.Struct):
    exp: object = None
    iat: object = None
    access: object = None


_decode_claims = msgspec.json.Decoder(_Claims).decode


def read_grants(token: str) -> Grants:
    """Read the claims of a JWT (RFC 7519). What cannot be read is unknown; nothing is raised."""
    parts = token.split(".") if len(token) <= _MAX_TOKEN_LENGTH else []
    if len(parts) != 3:
        return Grants()
    try:
        padded = parts[1] + "=" * (-len(parts[1]) % 4)
        claims = _decode_claims(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, msgspec.DecodeError, RecursionError, ValueError):
        return Grants()
    return Grants(_lifetime(claims), _entries(claims.access))


def _lifetime(claims: _Claims) -> float | None:
    """From issue to end by GitLab's own clock, so that an error of ours does not matter."""
    end, start = claims.exp, claims.iat
    if not isinstance(end, (int, float)) or not isinstance(start, (int, float)):
        return None
    if isinstance(end, bool) or isinstance(start, bool) or max(abs(end), abs(start)) > _MAX_NUMBER:
        return None
    lifetime = end - start
    return min(float(lifetime), _MAX_LIFETIME_SECONDS) if math.isfinite(lifetime) and lifetime > 0 else None


def _entries(access: object) -> Mapping[tuple[str, str], Grant] | None:
    """The granted things; ``None`` if a single one cannot be understood: then no comparison means anything."""
    if not isinstance(access, list) or len(access) > _MAX_ENTRIES:
        return None
    found: dict[tuple[str, str], Grant] = {}
    for entry in access:
        if not isinstance(entry, dict):
            return None
        key, actions = _key(entry), _texts(entry.get("actions"), _MAX_ACTIONS)
        if key is None or actions is None:
            return None
        former = found.get(key)
        granted = frozenset(actions) | (former.actions if former else frozenset())
        found[key] = Grant(granted, _meta(entry.get("meta")) or (former.meta if former else None))
    return found


def _key(entry: Mapping[str, object]) -> tuple[str, str] | None:
    kind, name = entry.get("type"), entry.get("name")
    if not isinstance(kind, str) or not isinstance(name, str) or max(len(kind), len(name)) > _MAX_NAME_LENGTH:
        return None
    return kind, name


def _meta(raw: object) -> TokenMeta | None:
    if not isinstance(raw, dict):
        return None
    number, path = raw.get("project_id"), raw.get("project_path")
    is_number = isinstance(number, int) and not isinstance(number, bool) and 0 < number <= _MAX_NUMBER
    denied = raw.get("tag_deny_access_patterns")
    if denied is None:
        denied = _NO_META
    is_mapping = isinstance(denied, dict) or denied is _NO_META
    return TokenMeta(
        number if is_number else None,
        path if isinstance(path, str) and len(path) <= _MAX_NAME_LENGTH and path.isprintable() else "",
        _patterns(denied.get("delete")) if is_mapping else (EVERYTHING,),
        _patterns(denied.get("push")) if is_mapping else (EVERYTHING,),
        _patterns(raw.get("tag_immutable_patterns")),
    )


def _patterns(raw: object) -> tuple[str, ...]:
    """The patterns of a list; absent means no rules, unreadable means that everything is held."""
    if raw is None:
        return ()
    texts = _texts(raw, _MAX_PATTERNS)
    if texts is None or any(len(text) > _MAX_PATTERN_LENGTH for text in texts):
        return (EVERYTHING,)
    return tuple(sorted(set(texts)))


def _texts(raw: object, limit: int) -> list[str] | None:
    if not isinstance(raw, list) or len(raw) > limit:
        return None
    texts = [text for text in raw if isinstance(text, str)]
    return texts if len(texts) == len(raw) else None
