"""Which patterns of a policy do not mean what they seem to?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Final, Literal, NamedTuple, TypeAlias

from regwarden.core.oci.references import parse_repository_name, parse_tag_name
from regwarden.core.patterns import Pattern, PatternKind
from regwarden.core.policy import Policy
from regwarden.core.policy_lint_codes import Finding
from regwarden.core.policy_matching import Match, RepositoryMatch, TagMatch
from regwarden.core.policy_overlap import MAX_COMPARED, pattern_covers
from regwarden.errors import InputError

Noun: TypeAlias = Literal["tag", "repository", "registry", "text"]

# Lists whose patterns are all wanted; in the others one of them is enough.
_CONJUNCTIONS: Final = frozenset({"all", "each-of-digest"})
_CHARACTER_SET: Final = re.compile(r"\[\^?\]?[^\]]*\]")
_DOT: Final = re.compile(r"(?<=[0-9A-Za-z\])}])(?<!\\)\.(?=[0-9A-Za-z\[(\\])")
_REGEX_CHARACTERS: Final = frozenset("\\.*+?()[]{}|^$")
_GLOB_CHARACTERS: Final = re.compile(r"[*?{},]")
_NAME_CHARACTERS: Final[dict[Noun, re.Pattern[str]]] = {
    "tag": re.compile(r"[A-Za-z0-9_.-]{0,128}"),
    "repository": re.compile(r"[a-z0-9_./-]{0,255}"),
}


class _List(NamedTuple):
    path: str
    patterns: Sequence[Pattern]
    noun: Noun


def lint_patterns(policy: Policy) -> Iterator[Finding]:
    """Warnings about single patterns and about lists of them."""
    for path, patterns, noun in _lists(policy):
        for number, pattern in enumerate(patterns):
            here = f"{path}[{number}]"
            yield from _lint_pattern(here, pattern, noun)
            if wider := _wider(patterns, number, noun) if path.rpartition(".")[2] not in _CONJUNCTIONS else None:
                yield Finding("redundant-pattern", here, f"{wider} in the same list matches all that {pattern} does")
    for path, match in _matches(policy):
        if match.tags is not None:
            yield from _lint_tags(f"{path}.tags", match.tags)
    for path, repositories in _repositories(policy):
        yield from _lint_excluded(path, repositories)
    for path, text in policy.unquoted:
        yield Finding("unquoted", path, f"other programs do not read {text} as a text", f'Write "{text}".')


def _wider(patterns: Sequence[Pattern], number: int, noun: Noun) -> Pattern | None:
    """Another pattern of a list that makes one superfluous; of two equal ones the first makes the second so."""
    pattern = patterns[number]
    if len(patterns) > MAX_COMPARED:
        return None
    for other, one in enumerate(patterns):
        if (one == pattern and other < number) or (one != pattern and noun == "tag" and pattern_covers(one, pattern)):
            return one
    return None


def _lint_pattern(path: str, pattern: Pattern, noun: Noun) -> Iterator[Finding]:
    if pattern.kind is PatternKind.REGEX:
        yield from _lint_regex(path, pattern.text)
    if pattern.kind is PatternKind.GLOB and pattern.exact is not None:
        hint = f"Write glob:{pattern.text}* for all that begins like this."
        yield Finding("glob-without-star", path, f"{pattern} matches {pattern.text} alone", hint)
    if reason := _why_nothing(pattern, noun):
        yield Finding("matches-nothing", path, f"{pattern} matches no {noun}: {reason}")


def _lint_regex(path: str, regex: str) -> Iterator[Finding]:
    alternatives = _alternatives(regex)
    starts = [one.startswith("^") for one in alternatives]
    ends = [one.endswith("$") and not one.endswith(r"\$") for one in alternatives]
    whole = f"re:{regex}"
    if len(alternatives) > 1:
        if len(set(starts)) > 1 or len(set(ends)) > 1:
            hint = "Leave ^ and $ out; every alternative matches the whole text."
            yield Finding("half-anchored", path, f"{whole} anchors some of its alternatives only", hint)
    elif starts[0] != ends[0] and not _is_open(regex, at_end=starts[0]):
        side = f"{regex}.*" if starts[0] else f".*{regex}"
        yield Finding(
            "regex-as-prefix", path, f"{whole} matches whole texts only", f"Write re:{side} to leave it open."
        )
    elif not _REGEX_CHARACTERS & set(regex):
        yield Finding("regex-as-prefix", path, f"{whole} matches {regex} alone", f"Write {regex}, or re:{regex}.*")
    if _DOT.search(_CHARACTER_SET.sub("[]", regex)):
        hint = r"Write \. for a dot (in double quotes YAML wants \\. )."
        yield Finding("regex-dot", path, f"the dot in {whole} matches any character", hint)


def _alternatives(regex: str) -> list[str]:
    """The parts of a regular expression between the bars that stand in no group and no set."""
    parts, depth, is_in_set, is_escaped = [""], 0, False, False
    for character in regex:
        is_bar = character == "|" and not (depth or is_in_set or is_escaped)
        if not is_escaped:
            is_in_set = character == "[" or (is_in_set and character != "]")
            if not is_in_set:
                depth += (character == "(") - (character == ")")
        is_escaped = character == "\\" and not is_escaped
        if is_bar:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def _is_open(regex: str, *, at_end: bool) -> bool:
    """Whether a regular expression says itself that anything may follow or come before."""
    return regex.endswith((".*", ".+", "*", "+", "}")) if at_end else regex.startswith((".*", ".+"))


def _why_nothing(pattern: Pattern, noun: Noun) -> str:
    allowed = _NAME_CHARACTERS.get(noun)
    if allowed is None:
        return ""
    if pattern.kind is PatternKind.EXACT:
        try:
            (parse_tag_name if noun == "tag" else parse_repository_name)(pattern.text)
        except InputError as error:
            return error.message
        return ""
    literal = pattern.literal_prefix
    if pattern.kind is PatternKind.GLOB:
        literal = _GLOB_CHARACTERS.sub("", _CHARACTER_SET.sub("", pattern.text))
    if allowed.fullmatch(literal) is None:
        return f"no {noun} has such characters or is so long"
    if pattern.literal_prefix.startswith((".", "-", "/")) or (noun == "repository" and pattern.text.endswith("/")):
        return f"no {noun} begins or ends like this"
    return ""


def _lint_tags(path: str, tags: TagMatch) -> Iterator[Finding]:
    for number, pattern in enumerate(tags.all[:MAX_COMPARED]):
        clash = next((one for one in tags.all[:number] if _exclude_each_other(one, pattern)), None)
        if clash is not None:
            hint = "Write any: for at least one of them, or each-of-digest: for several tags of one image."
            yield Finding("matches-nothing", f"{path}.all", f"no tag matches both {clash} and {pattern}", hint)
    wanted = tags.any or tags.all_of_digest
    if 0 < len(wanted) <= MAX_COMPARED and all(
        any(pattern_covers(one, pattern) for one in tags.none) for pattern in wanted
    ):
        yield Finding("matches-nothing", f"{path}.none", "none excludes all that the other patterns select")


def _exclude_each_other(one: Pattern, other: Pattern) -> bool:
    if one.exact is not None:
        return not other.matches(one.exact)
    if other.exact is not None:
        return not one.matches(other.exact)
    first, second = one.literal_prefix, other.literal_prefix
    return not (first.startswith(second) or second.startswith(first))


def _lint_excluded(path: str, repositories: RepositoryMatch) -> Iterator[Finding]:
    for number, pattern in enumerate(repositories.exclude):
        ends_in_star = pattern.text.endswith("*") and not pattern.text.endswith("**")
        if pattern.kind is PatternKind.GLOB and ends_in_star:
            message = f"{pattern} does not exclude what lies below another slash"
            yield Finding("exclude-one-level", f"{path}.exclude[{number}]", message, f"Write {pattern}* for all of it.")


def _lists(policy: Policy) -> Iterator[_List]:
    yield _List("scope.registries", policy.scope.registries, "registry")
    for path, repositories in _repositories(policy):
        yield _List(f"{path}.include", repositories.include, "repository")
        yield _List(f"{path}.exclude", repositories.exclude, "repository")
    for path, match in _matches(policy):
        if match.tags is not None:
            for one in fields(match.tags):
                yield _List(f"{path}.tags.{one.name.replace('_', '-')}", getattr(match.tags, one.name), "tag")
        texts = [("media-types", match.media_types), ("artifact-types", match.artifact_types)]
        for key, text in (*texts, *((f"labels.{name}", one) for name, one in match.labels)):
            if text is not None:
                yield _List(f"{path}.{key}.any", text.any, "text")
                yield _List(f"{path}.{key}.none", text.none, "text")


def _repositories(policy: Policy) -> Iterator[tuple[str, RepositoryMatch]]:
    if policy.scope.repositories is not None:
        yield "scope.repositories", policy.scope.repositories
    for path, match in _matches(policy):
        if match.repositories is not None:
            yield f"{path}.repositories", match.repositories


def _matches(policy: Policy) -> Iterator[tuple[str, Match]]:
    yield from ((f"protect[{number}]", protection) for number, protection in enumerate(policy.protect))
    yield from ((f"{path}.match", rule.match) for path, rule in policy.rules_by_path())
