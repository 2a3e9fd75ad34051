"""Which systems' rules can be translated, which system is a document of, and what does its translation say?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from regwarden.core.importers import acr, ecr, gar, gcr_cleaner, gitlab, harbor, quay, zot
from regwarden.core.importers.api import ANYWHERE, Imported, Rules, Severity, Target, Translation
from regwarden.core.importers.drafting import write_drafts
from regwarden.core.importers.scopes import check_target
from regwarden.core.importers.sources import Source
from regwarden.core.policy_problems import PolicyError, nearest
from regwarden.core.policy_reading import parse_policies
from regwarden.errors import InputError

AUTO: Final = "auto"
_GUARDS: Final = (
    "what is younger than a day stays, a repository is never emptied, limits and approval apply, and signatures, build"
    " caches and other special tags are not counted, and go with their images"
)


class Importer(NamedTuple):
    """What translates the rules of one system."""

    title: str
    translate: Callable[[Rules], Translation]
    looks_like: Callable[[Source], bool] = lambda _: False
    looks_like_text: Callable[[str], bool] = lambda _: False


IMPORTERS: Final[Mapping[str, Importer]] = MappingProxyType(
    {
        gitlab.SYSTEM: Importer("GitLab", gitlab.translate, gitlab.looks_like),
        harbor.SYSTEM: Importer("Harbor", harbor.translate, harbor.looks_like),
        ecr.SYSTEM: Importer("Amazon ECR", ecr.translate, ecr.looks_like),
        gar.SYSTEM: Importer("Google Artifact Registry", gar.translate, gar.looks_like),
        zot.SYSTEM: Importer("zot", zot.translate, zot.looks_like),
        gcr_cleaner.SYSTEM: Importer(
            "gcr-cleaner", gcr_cleaner.translate, gcr_cleaner.looks_like, gcr_cleaner.looks_like_text
        ),
        acr.SYSTEM: Importer("acr purge", acr.translate, looks_like_text=acr.looks_like),
        quay.SYSTEM: Importer("Quay", quay.translate, quay.looks_like),
    }
)


def translate_rules(text: str, *, system: str, name: str, target: Target = ANYWHERE) -> Imported:
    """Translate the cleanup rules of a system: its name in ``IMPORTERS``, or ``auto`` to see what the text looks like.

    ``name`` is what messages call the text. Raises ``InputError`` with the place in it for what cannot be translated.
    """
    check_system(system)
    check_target(target)
    rules = Rules(text, name, target)
    if system == AUTO:
        system = detect(rules)
    importer = IMPORTERS[system]
    translation = importer.translate(rules)
    translation.say(Severity.NOTE, "guards", "", _GUARDS)
    head = f"Translated from {importer.title} by regwarden policy import: check it, and read what differs."
    written = write_drafts(translation.drafts, head=head)
    try:
        policies = parse_policies(written, name="the translation")
    except PolicyError as error:
        message = f"{name}: this cannot be written as a policy: {error.problems[0].message}"
        raise InputError(message, hint=error.hint) from None
    return Imported(system=system, text=written, policies=policies, differences=tuple(translation.differences))


def check_system(name: str) -> None:
    """Raises ``InputError`` for what is neither a system nor ``auto``."""
    if name != AUTO and name not in IMPORTERS:
        raise InputError(f"there is no importer for {name[:80]!r}", hint=nearest(name, [AUTO, *IMPORTERS]))


def detect(rules: Rules) -> str:
    """The only system whose rules the text looks like; raises ``InputError`` if there is none, or several."""
    found = [name for name, one in IMPORTERS.items() if one.looks_like_text(rules.text)]
    if not found:
        document = rules.document()
        found = [name for name, one in IMPORTERS.items() if one.looks_like(document)]
    if len(found) != 1:
        what = f"as much of {' as of '.join(found)}" if found else "of no system that is known"
        hint = f"Say it with --from: {', '.join(IMPORTERS)}."
        raise InputError(f"{rules.name}: this looks {what}", hint=hint)
    return found[0]
