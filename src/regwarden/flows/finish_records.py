"""What was found out at each registry when a plan was finished, and after its garbage was collected."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from regwarden.core.collection_prediction import RemovedBlob
from regwarden.core.collection_runbook import Expected, Runbook, build_runbook
from regwarden.core.collection_steps import Flavour
from regwarden.core.quantities import parse_duration
from regwarden.settings import RegistrySettings


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionPlace:
    """What the settings say about collecting at one registry: its storage folder, the command and how long it may take.

    An empty ``command``: there is none.
    """

    storage_path: Path | None = None
    command: tuple[str, ...] = ()
    timeout_seconds: float = 6 * 3600.0


def place_of(registry: RegistrySettings) -> CollectionPlace:
    """What the settings of a registry say."""
    return CollectionPlace(
        storage_path=Path(registry.storage_path) if registry.storage_path else None,
        command=registry.collect_command,
        timeout_seconds=parse_duration(registry.collect_timeout).total_seconds(),
    )


NOWHERE: Final = CollectionPlace()


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryEnd:
    """What finishing a plan found out about one registry.

    ``store_bytes`` is the size of its blob store then; ``None``: not measured, ``problem`` says why if it was to be.
    ``sample`` are blobs that should go and could be read then.
    """

    registry: str
    flavour: Flavour
    expected: Expected
    store_bytes: int | None
    problem: str
    sample: tuple[RemovedBlob, ...]

    @property
    def runbook(self) -> Runbook:
        """How its garbage is collected."""
        return build_runbook(self.registry, self.flavour, self.expected)


class Conclusion(StrEnum):
    """Whether the garbage was collected."""

    COLLECTED = "collected"
    PARTLY = "partly"  # less than expected, or only some of the sample: something holds on to the rest
    NOT_COLLECTED = "not-collected"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryCollected:
    """What a collection did at one registry.

    ``freed_bytes`` is measured, or ``None``; pushes meanwhile make it less, older garbage more. Of the ``sample_count``
    blobs that could be read before, ``gone_count`` cannot be read any more.
    """

    registry: str
    conclusion: Conclusion
    expected: Expected
    freed_bytes: int | None
    sample_count: int
    gone_count: int
    problem: str = ""


def conclude(expected: Expected, freed_bytes: int | None, sample_count: int, gone_count: int) -> Conclusion:
    """What is to be believed: what was measured, if it was; a sample tells less."""
    if expected.at_most_bytes == 0:
        return Conclusion.COLLECTED  # nothing was to go
    if freed_bytes is not None:
        if freed_bytes <= 0:
            return Conclusion.NOT_COLLECTED
        is_enough = freed_bytes >= (expected.at_least_bytes or 0)
        return Conclusion.COLLECTED if is_enough else Conclusion.PARTLY
    if sample_count == 0:
        return Conclusion.UNKNOWN
    if gone_count == sample_count:
        return Conclusion.COLLECTED
    return Conclusion.PARTLY if gone_count else Conclusion.NOT_COLLECTED
