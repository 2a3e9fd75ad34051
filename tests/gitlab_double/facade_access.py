"""What does a registry token allow, and which tags does it protect? Read only after its signature was checked."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import re2
from aiohttp import web
from joserfc.errors import JoseError

from tests.gitlab_double import keys
from tests.gitlab_double.state import Settings

LEEWAY_SECONDS = 60


@dataclass(frozen=True)
class Bearer:
    """A token that holds."""

    claims: Mapping[str, Any]

    def allows(self, name: str, *actions: str, kind: str = "repository") -> bool:
        """Whether all of these actions are granted; ``*`` stands for pull, push and delete."""
        granted = {action for entry in self._entries(name, kind) for action in entry.get("actions", ())}
        return "*" in granted or granted.issuperset(actions)

    @property
    def allows_catalog(self) -> bool:
        return self.allows("catalog", "*", kind="registry")

    def denies(self, name: str, action: str, tag: str) -> bool:
        """Whether a rule keeps this holder from pushing or deleting a tag."""
        return any(_is_found(pattern, tag) for pattern in self._denying(name, action))

    def is_immutable(self, name: str, tag: str) -> bool:
        return any(_is_found(pattern, tag) for pattern in self._immutable(name))

    def protects_manifests(self, name: str) -> bool:
        """Whether any rule for deletions exists: then no manifest goes, whatever its tags are."""
        return bool(self._denying(name, "delete") or self._immutable(name))

    def _entries(self, name: str, kind: str = "repository") -> list[dict[str, Any]]:
        return [entry for entry in self.claims["access"] if entry["type"] == kind and entry["name"] == name]

    def _denying(self, name: str, action: str) -> list[str]:
        metas = [entry.get("meta") or {} for entry in self._entries(name)]
        return [pattern for meta in metas for pattern in meta.get("tag_deny_access_patterns", {}).get(action, ())]

    def _immutable(self, name: str) -> list[str]:
        metas = [entry.get("meta") or {} for entry in self._entries(name)]
        return [pattern for meta in metas for pattern in meta.get("tag_immutable_patterns", ())]


def read_bearer(request: web.BaseRequest, settings: Settings) -> Bearer | None:
    """The token of a request; ``None`` if there is none, or none that holds."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        return None
    try:
        claims = keys.read_signed(token.strip())
    except (JoseError, ValueError):
        return None
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    now = time.time()
    is_good = (
        claims.get("iss") == settings.issuer
        and settings.service in audiences
        and isinstance(claims.get("exp"), int)
        and now <= claims["exp"] + LEEWAY_SECONDS
        and now >= claims.get("nbf", 0) - LEEWAY_SECONDS
    )
    return Bearer(claims) if is_good and isinstance(claims.get("access"), list) else None


def _is_found(pattern: str, tag: str) -> bool:
    """RE2, found anywhere; what is no expression protects all."""
    try:
        return re2.search(pattern, tag) is not None
    except re2.error:
        return True
