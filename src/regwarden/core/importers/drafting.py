"""How is a translated policy written, so that people see which rule of the original became which of ours?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from regwarden.core.policy_values import MAX_NAME_LENGTH

Clauses: TypeAlias = dict[str, Any]

_PLAIN: Final = re.compile(r"[a-z][a-z0-9-]*|[0-9]{1,12}[smhdwy]")
_RESERVED: Final = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
_NO_NAME: Final = re.compile(r"[^a-z0-9.-]+")
_INNER_CAPITAL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_COMMENT_LENGTH: Final = 160


@dataclass(slots=True)
class Rule:
    """One rule: the comment that names its origin, and its clauses."""

    comment: str
    clauses: Clauses


@dataclass(slots=True)
class Draft:
    """One policy in the making. Rules are lists under ``protect``, ``keep``, ``delete``, or in ``rules`` by kind."""

    name: str
    comment: str
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    requires: Clauses = field(default_factory=dict)
    protect: list[Rule] = field(default_factory=list)
    keep: list[Rule] = field(default_factory=list)
    delete: list[Rule] = field(default_factory=list)
    ordered: list[tuple[str, Rule]] = field(default_factory=list)  # kind, rule: mode first-match
    is_ordered: bool = False
    default: str = "keep"
    unit: str = "tag"


def build_name(text: str, taken: Iterable[str] = ()) -> str:
    """A name for a policy or rule from any text, different from those that are taken, with room for a suffix."""
    words = _INNER_CAPITAL.sub("-", text).lower()
    name = _NO_NAME.sub("-", words).strip("-.")[: MAX_NAME_LENGTH - 20].strip("-.") or "rule"
    used = set(taken)
    if name not in used:
        return name
    return next(f"{name}-{number}" for number in range(2, len(used) + 3) if f"{name}-{number}" not in used)


def write_drafts(drafts: Iterable[Draft], *, head: str) -> str:
    """The YAML text of policies. ``head`` is a comment for the beginning."""
    blocks = ["\n".join(_lines(draft)) for draft in drafts]
    return f"# {_comment(head)}\n" + "\n---\n".join(blocks) + "\n"


def _lines(draft: Draft) -> Iterator[str]:
    yield f"# {_comment(draft.comment)}"
    yield from ("apiVersion: retention/v1", "kind: Policy", f"metadata: {_flow({'name': draft.name})}")
    repositories: Clauses = {"include": list(draft.include)}
    if draft.exclude:
        repositories["exclude"] = list(draft.exclude)
    yield f"scope: {_flow({'repositories': repositories})}"
    if draft.requires:
        yield f"requires: {_flow(draft.requires)}"
    if draft.is_ordered:
        yield "mode: first-match"
    for key in ("protect", "keep", "delete"):
        rules: list[Rule] = getattr(draft, key)
        if rules:
            yield f"{key}:"
        for rule in rules:
            yield from _rule_lines(rule, "  - ")
    if draft.ordered:
        yield "rules:"
    for kind, rule in draft.ordered:
        yield f"  # {_comment(rule.comment)}"
        yield f"  - {kind}:"
        yield from (f"      {key}: {_flow(value)}" for key, value in rule.clauses.items())
    yield f"default: {draft.default}"
    if draft.unit != "tag":
        yield f"unit: {draft.unit}"


def _rule_lines(rule: Rule, dash: str) -> Iterator[str]:
    yield f"  # {_comment(rule.comment)}"
    for number, (key, value) in enumerate(rule.clauses.items()):
        yield f"{'    ' if number else dash}{key}: {_flow(value)}"


def _flow(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_flow(key)}: {_flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_flow(inner) for inner in value) + "]"
    if isinstance(value, int):
        return str(value).lower()
    return _quoted(str(value))


def _quoted(text: str) -> str:
    if _PLAIN.fullmatch(text) and text not in _RESERVED:
        return text
    if '"' in text or "\\" in text:
        return "'" + text.replace("'", "''") + "'"
    return f'"{text}"'


def _comment(text: str) -> str:
    shown = "".join(character if character.isprintable() else " " for character in text)
    return shown if len(shown) <= _COMMENT_LENGTH else f"{shown[: _COMMENT_LENGTH - 1]}…"
