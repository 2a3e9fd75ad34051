"""How is a pattern that another system finds somewhere, or anchors in its own way, written as one for whole texts?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from regwarden.core.importers.sources import Source
from regwarden.core.patterns import Pattern
from regwarden.core.policy_values import parse_scope_pattern, parse_whole_pattern
from regwarden.errors import InputError

_REPEATS: Final = ("*", "+", "?", "{")


def has_outer_bar(regex: str) -> bool:
    r"""Whether a regular expression has alternatives in no group. ``True`` also where ``\Q`` hides what is literal."""
    depth, position = 0, 0
    while position < len(regex):
        character = regex[position]
        if character == "\\":
            if regex[position + 1 : position + 2] == "Q":
                return "|" in regex
            position += 2
            continue
        if character == "[":
            position = _end_of_set(regex, position)
            continue
        depth += (character == "(") - (character == ")")
        if character == "|" and depth <= 0:
            return True
        position += 1
    return False


def from_search(regex: str) -> str:
    """The expression for whole texts that matches where ``regex`` is found somewhere in them."""
    if has_outer_bar(regex):
        return f".*(?:{regex}).*"
    body, is_at_start, is_at_end = _without_anchors(regex)
    start = "" if is_at_start or body.startswith(".*") else ".*"
    ends_open = body.endswith(".*") and not _is_escaped(body, len(body) - 2)
    if not body or body == ".*":
        return ".*" if not (is_at_start and is_at_end and not body) else "(?:)"
    return f"{start}{body}{'' if is_at_end or ends_open else '.*'}"


def is_found_anywhere(regex: str) -> bool:
    """Whether ``from_search`` opens the beginning of an expression that does not say itself that it is open."""
    return from_search(regex).startswith(".*") and not regex.startswith(".*")


def from_anchored(regex: str) -> str:
    r"""The expression for whole texts that matches as GitLab does: ``\A`` in front and ``\z`` behind, without a group.

    So of ``a|b`` the first matches at the beginning, the second at the end.
    """
    if has_outer_bar(regex):
        return rf".*(?:\A{regex}\z).*"
    body, _, _ = _without_anchors(regex)
    return body or "(?:)"


def tag_pattern(source: Source, pattern: str) -> str:
    """A typed pattern of tags; raises ``InputError`` with the place in the original if it cannot be used."""
    return _checked(source, pattern, parse_whole_pattern)


def repository_pattern(source: Source, pattern: str) -> str:
    """A typed pattern of repositories; raises ``InputError`` likewise."""
    return _checked(source, pattern, parse_scope_pattern)


def glob_of(source: Source, glob: str) -> str:
    """A doublestar glob of tags: a star is any run of characters, for tags have no slash. Exact without wildcards."""
    if "\\" in glob:
        raise source.error("a glob with a backslash cannot be translated", hint="Write it without one.")
    is_exact = not set("*?[]{}") & set(glob)
    return tag_pattern(source, glob if is_exact and glob.isascii() and ":" not in glob else f"glob:{glob}")


def repository_glob(source: Source, glob: str, *, prefix: str = "") -> str:
    """A doublestar glob of repositories below ``prefix``. There ``**`` crosses slashes only as a whole part."""
    if "\\" in glob:
        raise source.error("a glob with a backslash cannot be translated", hint="Write it without one.")
    if "{" not in glob:
        parts = (part if part == "**" else part.replace("**", "*") for part in glob.split("/"))
        glob = "/".join(parts)
    whole = f"{prefix}/{glob}" if prefix else glob
    return repository_pattern(source, f"glob:{whole}" if set("*?[]{}") & set(whole) else whole)


def _checked(source: Source, pattern: str, parse: Callable[[str], Pattern]) -> str:
    try:
        parse(pattern)
    except InputError as error:
        raise source.error(error.message, hint=error.hint) from None
    return pattern


def _without_anchors(regex: str) -> tuple[str, bool, bool]:
    body, is_at_start, is_at_end = regex, False, False
    for anchor in ("^", "\\A"):
        if body.startswith(anchor) and not body[len(anchor) :].startswith(_REPEATS):
            body, is_at_start = body[len(anchor) :], True
            break
    for anchor in ("$", "\\z"):
        if body.endswith(anchor) and not _is_escaped(body, len(body) - len(anchor)):
            body, is_at_end = body[: -len(anchor)], True
            break
    return body, is_at_start, is_at_end


def _is_escaped(regex: str, position: int) -> bool:
    before = regex[:position]
    return (len(before) - len(before.rstrip("\\"))) % 2 == 1


def _end_of_set(regex: str, start: int) -> int:
    position = start + 1
    if regex[position : position + 1] == "^":
        position += 1
    if regex[position : position + 1] == "]":
        position += 1
    while position < len(regex) and regex[position] != "]":
        if regex[position] == "\\":
            position += 1
        elif regex.startswith("[:", position) and (end := regex.find(":]", position + 2)) > 0:
            position = end + 1
        position += 1
    return position + 1
