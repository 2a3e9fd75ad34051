"""How do the texts that a caller gives become policies: checked, with names of their own, translated from elsewhere?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple
from zoneinfo import available_timezones

from regwarden.core.policy import Policy
from regwarden.core.policy_lint import lint
from regwarden.core.policy_problems import Problem
from regwarden.core.policy_reading import parse_policies, read_policies
from regwarden.errors import InputError

if TYPE_CHECKING:
    from regwarden.core.importers.api import Imported


class CheckedText(NamedTuple):
    """What a text holds, and what is wrong with it; ``name`` is what problems are told with."""

    name: str
    policies: tuple[Policy, ...]
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]

    def rows(self) -> list[dict[str, object]]:
        """The problems and warnings as rows, in the order of their places."""
        found = [*(("error", one) for one in self.problems), *(("warning", one) for one in self.warnings)]
        return [
            {
                "file": self.name,
                "line": one.place.line,
                "column": one.place.column,
                "severity": severity,
                "code": one.code,
                "message": one.message,
                "hint": one.hint,
            }
            for severity, one in sorted(found, key=lambda pair: pair[1].sort_key)
        ]


def check_policy_text(name: str, text: str) -> CheckedText:
    """Every mistake and every known trap of a text."""
    read = read_policies(text, known_zones=known_zones())
    return CheckedText(name, read.policies, read.problems, tuple(_traps(read.policies)))


def _traps(policies: tuple[Policy, ...]) -> Iterator[Problem]:
    for policy in policies:
        yield from lint(policy)


def parse_policy_texts(texts: Mapping[str, str], known_zones: frozenset[str]) -> tuple[Policy, ...]:
    """The policies of texts by the name of their file. Raises ``InputError`` (code ``bad-policy``)."""
    policies = tuple(
        policy for name, text in texts.items() for policy in parse_policies(text, name=name, known_zones=known_zones)
    )
    seen: set[str] = set()
    for policy in policies:
        if policy.name in seen:
            hint = "Reasons name policies: give each its own."
            raise InputError(f"two policies are called {policy.name}", hint=hint, code="bad-policy")
        seen.add(policy.name)
    if not policies:
        raise InputError("no policy is given", hint="Give at least one file: -f policy.yaml.", code="bad-policy")
    return policies


def imported_record(imported: Imported) -> dict[str, Any]:
    """A translation of another system's rules as plain values, for programs."""
    return {
        "from": imported.system,
        "policies": imported.text,
        "differences": [
            {"severity": one.severity.value, "code": one.code, "path": one.path, "message": one.message}
            for one in imported.differences
        ],
    }


def policy_example() -> str:
    """A commented policy to begin with."""
    return files("regwarden.core").joinpath("policy_example.yaml").read_text(encoding="utf-8")


def policy_schema() -> str:
    """The JSON schema of policies, with which editors complete and check them."""
    return files("regwarden.core").joinpath("policy.schema.json").read_text(encoding="utf-8")


@cache
def known_zones() -> frozenset[str]:
    """Time zones that this machine knows; none where it has no such list, and then they are not checked."""
    return frozenset(available_timezones())


def is_in_registry_scope(policy: Policy, registry: str) -> bool:
    """Whether a policy may be about repositories of a registry."""
    patterns = policy.scope.registries
    return not patterns or any(pattern.matches(registry) for pattern in patterns)
