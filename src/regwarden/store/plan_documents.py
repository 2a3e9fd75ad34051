"""How does a plan stand in the database? As compressed JSON: its head in one document, verdicts in one per repository.

Policies stand there as documents of their language and patterns as they are written; both are read again on loading.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeVar

import msgspec

from regwarden.core.patterns import Pattern, parse_pattern
from regwarden.core.plan import BudgetResult, Demands, Guard, GuardCode, Plan, PlanSizes, Step
from regwarden.core.policy import Policy
from regwarden.core.policy_reading import parse_policies, parse_policy, write_policy
from regwarden.core.selection import SelectedTags, Selection
from regwarden.core.verdicts import RepositoryVerdicts, Verdict
from regwarden.errors import RegwardenError, StoreError

T = TypeVar("T")

# Of a million verdicts, level 1 takes a second, level 6 five for a quarter less.
_LEVEL: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _SelectedTagsDocument:
    repository: str
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _SelectionDocument:
    registry: str
    repositories: tuple[str, ...]
    tags: tuple[str, ...]
    references: tuple[_SelectedTagsDocument, ...]
    excluded: tuple[str, ...]
    match_all_tags: bool
    raise_on_shared_tag: bool
    raise_on_shared_repository: bool
    untag: bool
    with_placeholders: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _PlanDocument:
    made_at: datetime
    expires_at: datetime
    made_by: str
    guards: tuple[Guard, ...]
    sizes: Mapping[str, PlanSizes]
    demands: Demands
    snapshots: Mapping[str, str]
    policy_texts: Mapping[str, str]
    policies: tuple[str, ...]
    selection: _SelectionDocument | None
    waived: tuple[GuardCode, ...]
    fingerprint: str
    acts_first_at: datetime | None
    budgets: tuple[BudgetResult, ...] = ()
    stay_counts: Mapping[str, int] = field(default_factory=dict)
    drops_repositories: bool = False


_VERDICTS: Final = msgspec.json.Decoder(tuple[Verdict, ...])
_PLAN: Final = msgspec.json.Decoder(_PlanDocument)


def pack_plan_document(plan: Plan) -> bytes:
    """Everything of a plan but its steps and verdicts."""
    document = _PlanDocument(
        made_at=plan.made_at,
        expires_at=plan.expires_at,
        made_by=plan.made_by,
        guards=plan.guards,
        sizes=plan.sizes,
        demands=plan.demands,
        snapshots=plan.snapshots,
        policy_texts=plan.policy_texts,
        policies=tuple(msgspec.json.encode(write_policy(policy)).decode() for policy in plan.policies),
        selection=None if plan.selection is None else _write_selection(plan.selection),
        waived=tuple(sorted(plan.waived)),
        fingerprint=plan.fingerprint,
        acts_first_at=plan.acts_first_at,
        budgets=plan.budgets,
        stay_counts=plan.stay_counts,
        drops_repositories=plan.drops_repositories,
    )
    return pack_json(document)


def unpack_plan_document(
    stored: bytes, *, steps: Sequence[Step] = (), verdicts: Sequence[RepositoryVerdicts] = ()
) -> Plan:
    """The plan of a stored document, with the steps and verdicts given. Raises ``StoreError`` if it is damaged."""
    try:
        document = _PLAN.decode(zlib.decompress(stored))
        policies = _read_policies(document)
        selection = None if document.selection is None else _read_selection(document.selection)
    except (zlib.error, msgspec.DecodeError, RegwardenError) as error:
        raise _damaged() from error
    return Plan(
        made_at=document.made_at,
        expires_at=document.expires_at,
        made_by=document.made_by,
        steps=tuple(steps),
        verdicts=tuple(verdicts),
        guards=document.guards,
        sizes=document.sizes,
        demands=document.demands,
        snapshots=document.snapshots,
        policy_texts=document.policy_texts,
        policies=policies,
        selection=selection,
        waived=frozenset(document.waived),
        fingerprint=document.fingerprint,
        acts_first_at=document.acts_first_at,
        budgets=document.budgets,
        stay_counts=document.stay_counts,
        drops_repositories=document.drops_repositories,
    )


def pack_verdicts(verdicts: Sequence[Verdict]) -> bytes:
    """The verdicts of one repository."""
    return pack_json(verdicts)


def unpack_verdicts(stored: bytes) -> tuple[Verdict, ...]:
    """The verdicts of one repository. Raises ``StoreError`` if they are damaged."""
    try:
        return _VERDICTS.decode(zlib.decompress(stored))
    except (zlib.error, msgspec.DecodeError) as error:
        raise _damaged() from error


def pack_json(value: object) -> bytes:
    """Compressed JSON of a value that msgspec can write."""
    return zlib.compress(msgspec.json.encode(value), _LEVEL)


def unpack_json(stored: bytes, kind: type[T]) -> T:
    """A value of ``kind`` from compressed JSON. Raises ``StoreError`` if it is damaged."""
    try:
        return msgspec.json.decode(zlib.decompress(stored), type=kind)
    except (zlib.error, msgspec.DecodeError) as error:
        raise _damaged() from error


def describe_origin(plan: Plan) -> str:
    """What a plan was made from, in a line: the names of its policies, or its selection."""
    if plan.selection is None:
        return ", ".join(policy.name for policy in plan.policies) or "no policy"
    selection = plan.selection
    named = [f"{one.repository}:{_join(one.tags)}" for one in selection.references]
    if selection.repositories:
        tags = f":{_join(selection.tags)}" if selection.tags else ""
        named += [f"{repository}{tags}" for repository in selection.repositories]
    excluded = f" without {_join(selection.excluded)}" if selection.excluded else ""
    return f"{selection.registry} {' '.join(named)}{excluded}"


def _read_policies(document: _PlanDocument) -> tuple[Policy, ...]:
    """The policies, which must say what their texts say: those are what the fingerprint covers."""
    policies = tuple(parse_policy(text, name="a stored policy") for text in document.policies)
    written = {
        policy.name: policy
        for name, text in document.policy_texts.items()
        for policy in parse_policies(text, name=name)
    }
    if any(written.get(policy.name, policy) != policy for policy in policies):
        raise _damaged()
    return tuple(written.get(policy.name, policy) for policy in policies)


def _join(patterns: Sequence[Pattern]) -> str:
    return ",".join(map(str, patterns))


def _write_selection(selection: Selection) -> _SelectionDocument:
    return _SelectionDocument(
        registry=selection.registry,
        repositories=_write(selection.repositories),
        tags=_write(selection.tags),
        references=tuple(
            _SelectedTagsDocument(repository=str(one.repository), tags=_write(one.tags)) for one in selection.references
        ),
        excluded=_write(selection.excluded),
        match_all_tags=selection.match_all_tags,
        raise_on_shared_tag=selection.raise_on_shared_tag,
        raise_on_shared_repository=selection.raise_on_shared_repository,
        untag=selection.untag,
        with_placeholders=selection.with_placeholders,
    )


def _read_selection(document: _SelectionDocument) -> Selection:
    return Selection(
        registry=document.registry,
        repositories=_read(document.repositories),
        tags=_read(document.tags),
        references=tuple(
            SelectedTags(repository=parse_pattern(one.repository), tags=_read(one.tags)) for one in document.references
        ),
        excluded=_read(document.excluded),
        match_all_tags=document.match_all_tags,
        raise_on_shared_tag=document.raise_on_shared_tag,
        raise_on_shared_repository=document.raise_on_shared_repository,
        untag=document.untag,
        with_placeholders=document.with_placeholders,
    )


def _write(patterns: Sequence[Pattern]) -> tuple[str, ...]:
    return tuple(map(str, patterns))


def _read(texts: Sequence[str]) -> tuple[Pattern, ...]:
    return tuple(map(parse_pattern, texts))


def _damaged() -> StoreError:
    return StoreError("a stored plan is damaged", hint="Run regwarden db check.", code="damaged")
