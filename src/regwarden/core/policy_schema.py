"""What may stand in a policy document, for editors and other programs? A JSON schema, made from the classes.

It knows the words, the types and the bounds; that clauses fit together, patterns and durations only the reader knows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from regwarden.core.policy import Policy
from regwarden.core.policy_clauses import Clause, MapOf, classes_below, clauses_of
from regwarden.core.policy_shapes import Schema

# The newest version that editors' YAML support understands everywhere.
DIALECT: Final = "http://json-schema.org/draft-07/schema#"


def build_schema() -> Schema:
    """The JSON schema (draft 7) of one policy document."""
    root = MapOf(Policy)
    return {
        "$schema": DIALECT,
        "$id": "urn:regwarden:policy:retention/v1",
        "title": "Regwarden policy",
        "description": _first_line(Policy),
        **root.schema(),
        "definitions": {MapOf(kind).name: _definition(kind) for kind in classes_below(Policy)},
    }


def build_tables() -> Iterator[tuple[str, str, tuple[Clause, ...]]]:
    """For the manual: every map's name, what it is for, and its clauses."""
    for kind in classes_below(Policy):
        yield MapOf(kind).name, _first_line(kind), clauses_of(kind)


def default_text(clause: Clause) -> str:
    """The default as it would be written in a document; empty if there is none to write."""
    if clause.is_required or clause.default in (None, (), ""):
        return "unlimited" if "unlimited" in clause.shape.title and not clause.is_required else ""
    written = clause.shape.write(clause.default)
    if isinstance(clause.shape, MapOf):
        return ""
    if isinstance(written, list):
        return f"[{', '.join(map(str, written))}]"
    return str(written).lower() if isinstance(written, bool) else str(written)


def _definition(kind: type[Any]) -> Schema:
    clauses = clauses_of(kind)
    described: Schema = {
        "type": "object",
        "description": _first_line(kind),
        "additionalProperties": False,
        "properties": {clause.key: _property(clause) for clause in clauses},
    }
    if required := [clause.key for clause in clauses if clause.is_required]:
        described["required"] = required
    return described


def _property(clause: Clause) -> Schema:
    described = clause.shape.schema()
    if "$ref" in described:  # what stands beside a reference is not looked at
        described = {"allOf": [described]}
    described["description"] = clause.help.replace("`", "")
    if text := default_text(clause):
        described["default"] = clause.shape.write(clause.default)
        if text == "unlimited":
            described["default"] = text
    return described


def _first_line(kind: type[Any]) -> str:
    return (kind.__doc__ or "").partition("\n")[0].replace("`", "")
