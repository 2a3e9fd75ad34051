"""Which roles does somebody have who signed in? Those of every rule that matches; nobody has a role without a rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from regwarden.core.access import Grant
from regwarden.core.grants import parse_area, parse_role
from regwarden.core.patterns import Pattern, parse_pattern
from regwarden.errors import InputError

_CONDITIONS: Final = "groups, users, claims or everyone = true"


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Somebody for whom a directory or an identity provider answers.

    ``provider`` is ``ldap`` or the name of an OIDC provider; ``subject`` never changes and is never used again
    (``ldap:<entryUUID>``, ``oidc:<issuer>:<sub>``); ``name`` is as the provider spells it. ``claims`` are attributes
    or claims with all their values as text (booleans ``true`` and ``false``). By ``login`` the provider finds them
    again when a session is refreshed.
    """

    provider: str
    subject: str
    name: str
    display_name: str = ""
    groups: frozenset[str] = frozenset()
    claims: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    login: str = ""


class WrittenRule(Protocol):
    """A rule as the settings have it (``settings_access.RoleRule``)."""

    @property
    def role(self) -> str: ...  # noqa: D102 -- documented in the settings
    @property
    def provider(self) -> str: ...  # noqa: D102 -- documented in the settings
    @property
    def groups(self) -> tuple[str, ...]: ...  # noqa: D102 -- documented in the settings
    @property
    def users(self) -> tuple[str, ...]: ...  # noqa: D102 -- documented in the settings
    @property
    def claims(self) -> tuple[str, ...]: ...  # noqa: D102 -- documented in the settings
    @property
    def everyone(self) -> bool: ...  # noqa: D102 -- documented in the settings
    @property
    def registries(self) -> tuple[str, ...]: ...  # noqa: D102 -- documented in the settings
    @property
    def repositories(self) -> tuple[str, ...]: ...  # noqa: D102 -- documented in the settings


class Rule(NamedTuple):
    """A rule that was understood; make it with ``parse_rule``."""

    grant: Grant
    provider: str = ""
    groups: tuple[Pattern, ...] = ()
    users: tuple[Pattern, ...] = ()
    claims: tuple[tuple[str, Pattern], ...] = ()

    def matches(self, who: SignedIn) -> bool:
        """Whether every condition that is set holds: any of the groups, any of the users, all of the claims."""
        return (
            (not self.provider or self.provider == who.provider)
            and (not self.groups or _any_matches(self.groups, who.groups))
            and (not self.users or _any_matches(self.users, (who.name,)))
            and all(_any_matches((pattern,), who.claims.get(name, ())) for name, pattern in self.claims)
        )


def parse_rule(written: WrittenRule) -> Rule:
    """Understand a rule. Raises ``InputError`` with the code ``bad-role-rule``.

    A rule without a condition would give its role to all who can sign in, so that must be said: ``everyone``.
    """
    has_condition = bool(written.groups or written.users or written.claims)
    if has_condition == written.everyone:
        what = "everyone = true and other conditions" if has_condition else "no condition"
        raise _bad(f"a rule for the role {written.role[:80]!r} has {what}", f"Give it {_CONDITIONS}.")
    try:
        return Rule(
            grant=Grant(parse_role(written.role), parse_area(written.registries, written.repositories)),
            provider=written.provider,
            groups=tuple(parse_pattern(text) for text in written.groups),
            users=tuple(parse_pattern(text) for text in written.users),
            claims=tuple(_parse_claim(text) for text in written.claims),
        )
    except InputError as error:
        raise _bad(f"a rule for the role {written.role[:80]!r}: {error.message}", error.hint) from None


def grants_for(rules: Sequence[Rule], who: SignedIn) -> tuple[Grant, ...]:
    """The grants of all rules that match ``who``, each once, in the order of the rules."""
    return tuple(dict.fromkeys(rule.grant for rule in rules if rule.matches(who)))


def _parse_claim(text: str) -> tuple[str, Pattern]:
    name, equals, pattern = text.partition("=")
    if not equals or not name.strip():
        raise _bad(f"{text[:80]!r} is not a claim and a pattern", "Write project_path=glob:team/**.")
    return name.strip(), parse_pattern(pattern)


def _any_matches(patterns: Sequence[Pattern], texts: frozenset[str] | tuple[str, ...]) -> bool:
    return any(pattern.matches(text) for pattern in patterns for text in texts)


def _bad(message: str, hint: str) -> InputError:
    return InputError(message, hint=hint, code="bad-role-rule")
