"""What goes into a translation of another system's cleanup rules, and what comes out of it?"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from regwarden.core.importers.drafting import Draft
from regwarden.core.importers.sources import Source, parse_source
from regwarden.core.policy import Policy


class Severity(StrEnum):
    """What a difference means for what is deleted."""

    NOTE = "note"  # about something else than what goes
    TRAP = "trap"  # translated as it is, and perhaps not what its author meant
    KEEPS_MORE = "keeps-more"  # the policy keeps what the original removes
    REMOVES_MORE = "removes-more"  # the policy may remove what the original keeps


class Difference(NamedTuple):
    """One thing that a reader of the translation must know; ``path`` is where it stands in the original."""

    code: str
    path: str
    message: str
    severity: Severity


class Target(NamedTuple):
    """Where the policies are to apply, for what the original does not say.

    ``repositories`` are patterns of the scope; ``project`` is the path below which the original's repositories lie.
    """

    repositories: tuple[str, ...] = ()
    project: str = ""


ANYWHERE: Final = Target()
"""Nothing is asked for: the original says where it applies, or the scope is to be filled in."""


@dataclass(slots=True)
class Rules:
    """The original: its text, what messages call it, and where it is to apply."""

    text: str
    name: str
    target: Target = ANYWHERE
    _document: Source | None = field(default=None, repr=False)

    def document(self) -> Source:
        """The text as JSON or YAML; raises ``InputError`` with the place of a mistake."""
        if self._document is None:
            self._document = parse_source(self.text, name=self.name)
        return self._document


@dataclass(slots=True)
class Translation:
    """What an importer makes of the original: drafts of policies, and what differs. It grows rule by rule."""

    drafts: list[Draft] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)

    def say(self, severity: Severity, code: str, path: str, message: str) -> None:
        """Report a difference, once."""
        difference = Difference(code, path, message, severity)
        if difference not in self.differences:
            self.differences.append(difference)


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """A translation: the YAML text, the policies that it holds, and what differs from the original of ``system``."""

    system: str
    text: str
    policies: tuple[Policy, ...]
    differences: tuple[Difference, ...]
