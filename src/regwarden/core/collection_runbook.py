"""How is the garbage of a registry collected, so that removals free space? The steps for one registry, as text.

Regwarden collects nothing by itself: it tells what to do, in words that fit the kind of registry and how it runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from regwarden.core.collection_steps import STEPS, WAYS, Deployment, Flavour, RunbookStep


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """Bytes that the collection should free, at least and at most; ``None`` where nobody can tell."""

    at_most_bytes: int | None = None
    at_least_bytes: int | None = None

    @property
    def is_exact(self) -> bool:
        """Whether both bounds are known and equal."""
        return self.at_most_bytes is not None and self.at_most_bytes == self.at_least_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Runbook:
    """What to do at one registry, in this order, and what it should free.

    ``is_manual`` is false where the registry collects its garbage by itself.
    """

    registry: str
    flavour: Flavour
    is_manual: bool
    steps: tuple[RunbookStep, ...]
    expected: Expected


_TITLES: Final = {
    Flavour.DISTRIBUTION_2: "Distribution 2.x",
    Flavour.DISTRIBUTION_3: "Distribution 3.x",
    Flavour.GITLAB: "GitLab's registry without a metadata database",
    Flavour.GITLAB_DATABASE: "GitLab's registry with a metadata database",
    Flavour.UNKNOWN: "a registry whose program is not known",
}
_GITLAB_DATABASE: Final = "gitlab-container-registry-database-enabled"
_CAPABLE: Final = "supported"
_INCAPABLE: Final = "unsupported"


def guess_flavour(server: str, delete_tag: str, headers: Mapping[str, str] = MappingProxyType({})) -> Flavour:
    """Which program it probably is: by what it calls itself, and whether it can delete a tag alone.

    ``delete_tag`` is an ``Ability``, ``headers`` are those of its ``GET /v2/``, in lower case. Distribution names no
    version; 3.x deletes tags and 2.x answers 400. GitLab's registry may say whether it has a metadata database.
    """
    if server.lower().startswith("gitlab"):
        has_database = headers.get(_GITLAB_DATABASE, "").strip().lower() == "true"
        return Flavour.GITLAB_DATABASE if has_database else Flavour.GITLAB
    if delete_tag == _INCAPABLE:
        return Flavour.DISTRIBUTION_2
    # Others than Distribution may say nothing about themselves and delete tags as well.
    return Flavour.DISTRIBUTION_3 if delete_tag == _CAPABLE and not server else Flavour.UNKNOWN


def build_runbook(registry: str, flavour: Flavour, expected: Expected) -> Runbook:
    """The runbook for one registry."""
    is_manual = flavour is not Flavour.GITLAB_DATABASE
    return Runbook(registry=registry, flavour=flavour, is_manual=is_manual, steps=STEPS[flavour], expected=expected)


def runbook_text(runbook: Runbook, deployment: Deployment | None = None, *, plan_id: int | None = None) -> str:
    """The runbook as plain text in lines; with ``deployment`` only the commands for that way to run a registry.

    ``plan_id`` is the plan whose end it is, for the commands that name one.
    """
    lines = [f"Collecting garbage at {runbook.registry} ({_TITLES[runbook.flavour]})", *_expected_lines(runbook), ""]
    for number, step in enumerate(runbook.steps, 1):
        lines += [f"{number}. {step.title}", f"   Why: {step.reason}"]
        for way, commands in step.commands:
            if deployment is None or way is deployment:
                lines += [f"   {WAYS[way]}:", *(f"       {_of_plan(command, plan_id)}" for command in commands)]
        lines += [f"   {note}" for note in step.notes]
    return "\n".join(lines) + "\n"


def _of_plan(command: str, plan_id: int | None) -> str:
    return command if plan_id is None else command.replace(" PLAN ", f" {plan_id} ")


def _expected_lines(runbook: Runbook) -> list[str]:
    expected = runbook.expected
    if expected.at_most_bytes is None:
        return ["How much it frees cannot be told beforehand."]
    if expected.is_exact:
        return [f"It should free {expected.at_most_bytes:,} bytes, and more where garbage lay there before."]
    return [
        f"It should free between {expected.at_least_bytes or 0:,} and {expected.at_most_bytes:,} bytes:",
        "untagged manifests that nobody knows of may go on holding some. More where garbage lay there before.",
    ]
