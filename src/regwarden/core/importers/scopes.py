"""For which repositories is a translated policy?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from regwarden.core.importers.api import Rules, Severity, Target, Translation
from regwarden.core.oci.references import parse_repository_name
from regwarden.core.policy_values import parse_scope_pattern

PLACEHOLDER: Final = "name-the-repositories"
"""A scope to be filled in: a policy that cannot say what it is about must not be about everything."""


def check_target(target: Target) -> None:
    """Raise ``InputError`` for a project or patterns of repositories that cannot be used."""
    if target.project:
        parse_repository_name(target.project)
    for pattern in target.repositories:
        parse_scope_pattern(pattern)


def include_of(rules: Rules, translation: Translation, *, own: Sequence[str] = ()) -> tuple[str, ...]:
    """The repositories of a policy: those that were asked for, those the original names, or those of the project.

    Where nobody says, it is a name to be replaced, and a difference says so.
    """
    if rules.target.repositories:
        return rules.target.repositories
    if own:
        return tuple(own)
    if rules.target.project:
        return below(rules.target.project)
    message = f"it does not say for which repositories it is: replace {PLACEHOLDER} in scope, or give --repository"
    translation.say(Severity.NOTE, "scope-missing", "", message)
    return (PLACEHOLDER,)


def below(path: str) -> tuple[str, ...]:
    """A repository and all below it."""
    return path, f"glob:{path}/**"
