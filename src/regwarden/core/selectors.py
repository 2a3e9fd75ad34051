"""Which repositories and tags a selector names: ``team/app``, ``team/app:1.0``, ``prod/glob:team-*/**:semver:>=1``.

A selector is a reference in which the repository and the tag may be patterns.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from regwarden.core.oci.digests import Digest
from regwarden.core.oci.references import parse_repository_name, parse_tag_name, split_registry
from regwarden.core.patterns import Pattern, PatternKind, parse_pattern, split_kind
from regwarden.errors import InputError

MAX_SELECTOR_LENGTH: Final = 2500
_TAG_ONLY: Final = frozenset({PatternKind.SEMVER, PatternKind.DATE, PatternKind.LOOSE})
_KIND_PREFIXES: Final = ("glob:", "re:", "semver:", "date:", "loose:", "start:", "~")
_DIGEST_STARTS: Final = ("sha256:", "sha512:")
_HINT: Final = (
    "A selector is [REGISTRY/]REPOSITORY[:TAG][@DIGEST], for example team/app:1.0 or glob:team/**:semver:^1.2."
)


@dataclass(frozen=True, slots=True)
class Selector:
    """A parsed selector: make it with ``parse_selector``. ``parse_selector(str(selector))`` equals it.

    ``None`` means "any". ``registry`` is a configured name or ``host[:port]`` as it was written.
    """

    repository: Pattern | None = None
    tag: Pattern | None = None
    registry: str | None = None
    digest: Digest | None = None

    def matches(self, repository: str, tag: str | None = None, digest: Digest | None = None) -> bool:
        """Whether this tag (or untagged manifest: ``tag`` is ``None``) of this repository is selected.

        The registry is not looked at: only the caller knows which names and hosts mean the same registry.
        """
        return (
            (self.repository is None or self.repository.matches(repository))
            and (self.tag is None or (tag is not None and self.tag.matches(tag)))
            and (self.digest is None or self.digest == digest)
        )

    def __str__(self) -> str:
        registry = f"{self.registry}/" if self.registry else ""
        repository = str(self.repository) if self.repository else ""
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{registry}{repository}{tag}{digest}"


def parse_selector(text: str, *, known_registries: Collection[str] = ()) -> Selector:
    """Read ``[REGISTRY/][REPOSITORY][:TAG][@DIGEST]`` where repository and tag are patterns.

    - The registry is split off as in a reference, unless the text begins with a kind of pattern.
    - The repository's part ends at the first colon after its kind, the tag's part is all the rest: a tag's regular
      expression may contain colons, a repository's may not (there are options and conditions for those).
    - A part without a kind is exact and must be a valid name; a tag's part that begins with ``<``, ``>`` or ``==``
      is a loose comparison. ``:TAG`` is a tag in any repository, ``@DIGEST`` a manifest in any, ``REGISTRY/`` a
      whole registry. A repository that is called like a kind needs one: ``glob:semver:1.0``.

    Raises ``InputError`` (codes ``bad-selector``, ``bad-pattern``, ``bad-reference``, ``bad-digest``), never
    anything else.
    """
    if not text or len(text) > MAX_SELECTOR_LENGTH or not text.isprintable():
        raise _bad(text, f"it is empty, longer than {MAX_SELECTOR_LENGTH} characters or has control characters")
    rest, digest = _split_digest(text)
    registry = None
    if split_kind(rest)[0] is None:
        registry, rest = split_registry(rest, known_registries=known_registries)
    repository_part, tag_part = _split_tag(rest)
    if not rest and registry is None and digest is None:
        raise _bad(text, "it names nothing")
    return Selector(
        repository=_parse_repository(repository_part) if repository_part else None,
        tag=_parse_tag(tag_part) if tag_part is not None else None,
        registry=registry,
        digest=digest,
    )


def _split_digest(text: str) -> tuple[str, Digest | None]:
    """A regular expression may contain ``@``, so in typed selectors only what begins like a digest is one."""
    head, at, tail = text.rpartition("@")
    if not at or (not tail.startswith(_DIGEST_STARTS) and _has_kind(head)):
        return text, None
    return head, Digest.parse(tail)


def _has_kind(text: str) -> bool:
    return any(prefix in text for prefix in _KIND_PREFIXES)


def _split_tag(text: str) -> tuple[str, str | None]:
    kind, body = split_kind(text)
    if kind is PatternKind.LOOSE:
        raise _bad(text, "a version comparison needs a colon in front", hint=f"Write REPOSITORY:{text[:80]}.")
    repository, colon, tag = body.partition(":")
    if colon and not tag:
        raise _bad(text, "nothing follows the colon")
    return text.removesuffix(body) + repository, tag or None


def _parse_repository(text: str) -> Pattern:
    try:
        pattern = parse_pattern(text)
    except InputError as error:
        if "(?" not in text:
            raise
        raise _bad(
            text, error.message, hint="The repository's part ends at the first colon; use (a|b), not (?:a|b)."
        ) from None
    if pattern.kind in _TAG_ONLY:
        raise _bad(text, "versions belong to tags", hint=f"Write REPOSITORY:{text[:80]} or :{text[:80]}.")
    if pattern.kind is PatternKind.EXACT:
        parse_repository_name(text)
    return pattern


def _parse_tag(text: str) -> Pattern:
    pattern = parse_pattern(text)
    if pattern.kind is PatternKind.EXACT:
        parse_tag_name(text)
    return pattern


def _bad(text: str, reason: str, *, hint: str = _HINT) -> InputError:
    return InputError(f"{text[:160]!r} is not a selector: {reason}", hint=hint, code="bad-selector")
