"""How are grants written down? As a list of objects: ``{"role", "registries", "repositories"}``, in JSON or YAML.

The same form stands in the database, in signed tokens, in the tokens file and in the web interface.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from regwarden.core.access import Area, Grant, Role
from regwarden.core.patterns import Pattern, parse_pattern
from regwarden.errors import InputError

MAX_GRANTS: Final = 50
MAX_PATTERNS: Final = 100
_FIELDS: Final = frozenset({"role", "registries", "repositories"})
_ROLES: Final = ", ".join(Role)


def grants_to_json(grants: Sequence[Grant]) -> list[dict[str, Any]]:
    """Grants as plain lists, dicts and strings; an area's part that is everything is left out."""
    return [_write(grant) for grant in grants]


def parse_grants(written: object) -> tuple[Grant, ...]:
    """Read a list of grants as ``grants_to_json`` makes it. Raises ``InputError`` with the code ``bad-grant``."""
    if not isinstance(written, list | tuple):
        raise _bad("grants are not a list", 'Write [{"role": "viewer"}].')
    if len(written) > MAX_GRANTS:
        raise _bad(f"there are {len(written)} grants", f"The limit is {MAX_GRANTS}.")
    return tuple(_parse(one) for one in written)


def parse_role(text: object) -> Role:
    """Read the name of a role. Raises ``InputError`` with the code ``bad-grant``."""
    try:
        return Role(str(text))
    except ValueError:
        raise _bad(f"{str(text)[:80]!r} is not a role", f"Roles are {_ROLES}.") from None


def build_grants(roles: Sequence[str], registries: Sequence[str] = (), repositories: Sequence[str] = ()) -> list[Grant]:
    """A grant of each role, all in the area of these patterns. Raises ``InputError`` with the code ``bad-grant``."""
    return list(
        parse_grants([{"role": role, "registries": registries, "repositories": repositories} for role in roles])
    )


def parse_area(registries: object, repositories: object) -> Area:
    """Read the patterns of an area; empty is everything. Raises ``InputError`` with the code ``bad-grant``."""
    return Area(_patterns("registries", registries), _patterns("repositories", repositories))


def _write(grant: Grant) -> dict[str, Any]:
    written: dict[str, Any] = {"role": grant.role.value}
    for name, patterns in (("registries", grant.area.registries), ("repositories", grant.area.repositories)):
        if patterns:
            written[name] = [str(pattern) for pattern in patterns]
    return written


def _parse(one: object) -> Grant:
    if not isinstance(one, dict):
        raise _bad("a grant is not an object", 'Write {"role": "viewer"}.')
    if unknown := sorted(str(key)[:40] for key in one if key not in _FIELDS):
        raise _bad(f"a grant has no field {unknown[0]!r}", "It has role, registries and repositories.")
    return Grant(parse_role(one.get("role")), parse_area(one.get("registries", ()), one.get("repositories", ())))


def _patterns(name: str, written: object) -> tuple[Pattern, ...]:
    """An empty list is everything; a null or a text is a mistake, and must not become everything."""
    if not isinstance(written, list | tuple) or not all(isinstance(text, str) for text in written):
        raise _bad(f"{name} of a grant is not a list of patterns", f'Write "{name}": ["glob:team/**"].')
    if len(written) > MAX_PATTERNS:
        raise _bad(f"{name} of a grant has {len(written)} patterns", f"The limit is {MAX_PATTERNS}.")
    try:
        return tuple(parse_pattern(text) for text in written)
    except InputError as error:
        raise _bad(f"{name} of a grant: {error.message}", error.hint) from None


def _bad(message: str, hint: str) -> InputError:
    return InputError(message, hint=hint, code="bad-grant")
