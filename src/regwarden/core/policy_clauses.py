"""How does a class of the policy language become a map of clauses: read, written, described?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, Final, NamedTuple

from regwarden.core.policy_lists import ListShape, MapShape
from regwarden.core.policy_problems import nearest
from regwarden.core.policy_shapes import UNREADABLE, OrUnlimited, Report, Schema, Shape, Unreadable
from regwarden.core.policy_text import ListNode, MapNode, Node
from regwarden.errors import InputError

_SHAPE: Final = "shape"
_HELP: Final = "help"
_KEY: Final = "key"


class Mistake(NamedTuple):
    """Clauses that do not fit together, found in a value; ``key`` is the clause at which it is shown."""

    key: str
    message: str
    hint: str = ""


def clause(shape: Shape, text: str, *, default: Any = MISSING, key: str = "") -> Any:
    """A field of a class of the language: how it is written, and a sentence for the manual.

    A default of ``None`` is for what may be left out. Without a default the clause is required.
    """
    return field(default=default, metadata={_SHAPE: shape, _HELP: text, _KEY: key})


class Clause(NamedTuple):
    """One clause of a class, as the manual and the schema need it."""

    key: str
    name: str
    shape: Shape
    help: str
    default: Any

    @property
    def is_required(self) -> bool:
        """Whether it cannot be left out."""
        return self.default is MISSING


def clauses_of(kind: type[Any]) -> tuple[Clause, ...]:
    """The clauses of a class of the language, in the order of its fields."""
    return tuple(
        Clause(_key_of(one), one.name, one.metadata[_SHAPE], one.metadata[_HELP], one.default)
        for one in fields(kind)
        if _SHAPE in one.metadata
    )


def _key_of(one: Field[Any]) -> str:
    return one.metadata[_KEY] or one.name.replace("_", "-")


@dataclass(frozen=True, slots=True)
class MapOf:
    """A map with the clauses of a class; a mistake in one clause does not hide those of the others."""

    kind: type[Any]

    @property
    def title(self) -> str:
        """A link to the class in the manual."""
        return f"[{self.name}](#{self.name})"

    @property
    def name(self) -> str:
        """The name of the class in schema and manual: ``keep-rule`` for ``KeepRule``."""
        letters = (f"-{letter.lower()}" if letter.isupper() else letter for letter in self.kind.__name__)
        return "".join(letters).removeprefix("-")

    def read(self, node: Node, path: str, report: Report) -> Any:
        """Read it."""
        if not isinstance(node, MapNode):
            keys = ", ".join(one.key for one in clauses_of(self.kind))
            what = "a list" if isinstance(node, ListNode) else "a single value"
            hint = f"Write a map with {keys}."
            if isinstance(node, ListNode) and any(one.key == "any" for one in clauses_of(self.kind)):
                hint = "Lists say what they mean: any: [...] for at least one, all: [...] for every one."
            raise InputError(f"a map is wanted here, not {what}", hint=hint)
        known = {one.key: one for one in clauses_of(self.kind)}
        values: dict[str, Any] = {}
        problem_count = len(report.problems)
        for key, value in node.entries:
            if (found := known.get(key.text)) is None:
                report.say(key.place, f"there is no {key.text[:80]!r} here", hint=_hint_for(key.text, known, report))
                continue
            inner = f"{path}.{key.text}" if path else key.text
            read = report.attempt(found.shape, value, inner)
            report.places[inner] = key.place
            if read is not UNREADABLE:
                values[found.name] = read
        given = {key.text for key, _ in node.entries}
        missing = [one.key for one in known.values() if one.is_required and one.key not in given]
        if missing:
            report.say(node.place, f"{' and '.join(missing)} missing here", hint=f"Add {missing[0]}: …")
        if any(one.is_required and one.name not in values for one in known.values()):
            return UNREADABLE
        return self._built(values, path, report, is_sound=len(report.problems) == problem_count)

    def _built(self, values: dict[str, Any], path: str, report: Report, *, is_sound: bool) -> Any | Unreadable:
        built = self.kind(**values)
        if is_sound:
            for mistake in getattr(built, "mistakes", tuple)():
                place = report.places.get(f"{path}.{mistake.key}" if path else mistake.key, report.places[path])
                report.say(place, mistake.message, hint=mistake.hint)
        return built

    def write(self, value: Any) -> dict[str, object]:
        """Write what differs from the defaults."""
        written = {}
        for one in clauses_of(self.kind):
            held = getattr(value, one.name)
            if one.is_required or held != one.default:
                written[one.key] = one.shape.write(held)
        return written

    def schema(self) -> Schema:
        """A reference to the class's definition."""
        return {"$ref": f"#/definitions/{self.name}"}


def write_in_full(value: Any) -> object:
    """A value of the language with every clause in effect, defaults included; what is empty is left out."""
    written: dict[str, object] = {}
    for one in clauses_of(type(value)):
        held = getattr(value, one.name)
        if held in ("", ()) or (held is None and not isinstance(one.shape, OrUnlimited)):
            continue
        written[one.key] = _in_full(one.shape, held)
    return written


def _in_full(shape: Shape, held: Any) -> object:
    if isinstance(shape, MapOf):
        return write_in_full(held)
    if isinstance(shape, ListShape):
        return [_in_full(shape.shape, entry) for entry in held]
    return shape.write(held)


def classes_below(kind: type[Any]) -> Iterator[type[Any]]:
    """The class and all classes of the language that its clauses lead to, each once, in reading order."""
    seen: list[type[Any]] = []
    waiting = [kind]
    while waiting:
        current = waiting.pop(0)
        if current not in seen:
            seen.append(current)
            waiting.extend(inner for one in clauses_of(current) for inner in classes_in(one.shape))
    return iter(seen)


def classes_in(shape: Shape) -> Iterator[type[Any]]:
    """The classes of the language to which a shape leads at once."""
    if isinstance(shape, MapOf):
        yield shape.kind
    elif isinstance(shape, (ListShape, MapShape, OrUnlimited)):
        yield from classes_in(shape.shape)


def _hint_for(word: str, known: dict[str, Clause], report: Report) -> str:
    if word == "<<":
        return "Merge keys are not used here; repeat the values."
    if home := report.homes.get(word):
        return f"It stands in {home}. Known here are: {', '.join(known)}."
    return nearest(word, known)
