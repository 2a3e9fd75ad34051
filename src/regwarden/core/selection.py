"""What is to go if a person names it, without a policy? docker-registry-util's rules of selection, without its bugs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from regwarden.core.oci.references import parse_tag_name
from regwarden.core.patterns import Pattern, PatternKind, parse_pattern, split_kind
from regwarden.core.selectors import parse_selector
from regwarden.errors import InputError, NotFound


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectedTags:
    """``--tag 'REPOSITORY:PATTERN'``: tags that match one of the patterns in repositories that match."""

    repository: Pattern
    tags: tuple[Pattern, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What somebody named on the command line.

    ``repositories`` are whole repositories unless ``tags`` are given, which then apply to each of them. ``references``
    bring their own repository. ``excluded`` tags keep their digests. With ``match_all_tags`` a digest goes only if
    all its tags in the repository are selected; otherwise one is enough, and its other tags go with it. A digest that
    is used outside the selection is left alone, or with ``raise_on_shared_…`` is an error. ``untag`` removes just the
    selected tags of such a digest.
    """

    registry: str
    repositories: tuple[Pattern, ...] = ()
    tags: tuple[Pattern, ...] = ()
    references: tuple[SelectedTags, ...] = ()
    excluded: tuple[Pattern, ...] = ()
    match_all_tags: bool = True
    raise_on_shared_tag: bool = False
    raise_on_shared_repository: bool = False
    untag: bool = False
    with_placeholders: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionWords:
    """A selection as it is written. ``tags`` are ``PATTERN`` or ``[REGISTRY/]REPOSITORY:PATTERN``.

    Regular expressions are anchored at the start only, as those of docker-registry-util were.
    """

    registry: str = ""
    repositories: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    tag_regexes: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    excluded_regexes: tuple[str, ...] = ()
    match_all_tags: bool = True
    raise_on_shared_tag: bool = False
    raise_on_shared_repository: bool = False
    untag: bool = False
    with_placeholders: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing is named."""
        return not (self.repositories or self.tags or self.tag_regexes)


def parse_selection(words: SelectionWords, known_registries: Collection[str]) -> Selection:
    """Read a selection about one registry: the one that is named, or the only one that is known.

    Raises ``InputError`` (code ``bad-selection``, or that of the pattern).
    """
    names = {words.registry} if words.registry else set()
    tags: list[Pattern] = [parse_pattern(f"start:{text}") for text in words.tag_regexes]
    references: list[SelectedTags] = []
    for text in words.tags:
        if not _names_repository(text):
            tags.append(_parse_tag(text))
            continue
        selector = parse_selector(text, known_registries=known_registries)
        if selector.tag is None or selector.repository is None or selector.digest is not None:
            raise _bad(f"{text[:160]!r} does not name tags of a repository")
        names |= {selector.registry} if selector.registry else set()
        references.append(SelectedTags(repository=selector.repository, tags=(selector.tag,)))
    repositories = []
    for text in words.repositories:
        selector = parse_selector(text, known_registries=known_registries)
        if selector.tag is not None or selector.repository is None or selector.digest is not None:
            raise _bad(f"{text[:160]!r} is not a repository", "Tags are given with --tag.")
        names |= {selector.registry} if selector.registry else set()
        repositories.append(selector.repository)
    if tags and not repositories:
        raise _bad("it is not said in which repositories these tags are", "Add --repository, or write REPOSITORY:TAG.")
    return Selection(
        registry=_only_registry(names, known_registries),
        repositories=tuple(repositories),
        tags=tuple(tags),
        references=tuple(references),
        excluded=(
            *map(_parse_tag, words.excluded),
            *(parse_pattern(f"start:{text}") for text in words.excluded_regexes),
        ),
        match_all_tags=words.match_all_tags,
        raise_on_shared_tag=words.raise_on_shared_tag,
        raise_on_shared_repository=words.raise_on_shared_repository,
        untag=words.untag,
        with_placeholders=words.with_placeholders,
    )


def _names_repository(text: str) -> bool:
    """Whether a text names a repository besides a tag: tags have no colon, kinds of patterns have one."""
    kind, body = split_kind(text)
    return kind not in (PatternKind.SEMVER, PatternKind.DATE, PatternKind.LOOSE) and ":" in body


def _parse_tag(text: str) -> Pattern:
    pattern = parse_pattern(text)
    if pattern.kind is PatternKind.EXACT:
        parse_tag_name(text)
    return pattern


def _only_registry(names: Collection[str], known: Collection[str]) -> str:
    if len(names) > 1:
        raise _bad(f"it names several registries: {', '.join(sorted(names))}", "Make a plan for each.")
    candidates = names or known
    if len(candidates) != 1:
        listed = ", ".join(sorted(known)) or "none; run regwarden crawl first"
        raise _bad("it is not said which registry is meant", f"Add --registry NAME. Known: {listed}.")
    name = next(iter(candidates))
    if name not in known:
        raise NotFound(
            f"the inventory has no registry {name[:160]!r}",
            hint=f"It has: {', '.join(sorted(known)) or 'none'}.",
            code="unknown-registry",
        )
    return name


def _bad(message: str, hint: str = "Write for example --tag 'team/app:<1.4'.") -> InputError:
    return InputError(f"this selection cannot be used: {message}", hint=hint, code="bad-selection")
