"""What does it mean for a repository that some of its tags and untagged manifests go: which steps, in which order?

A manifest is deleted only if all its tags go and nothing that stays leads to it. Otherwise only the tag is removed,
where the registry can do that. What a removed tag or manifest was the only reason for goes along.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from regwarden.core.holding import Held
from regwarden.core.observed import ObservedRepository, ObservedTag, TagState
from regwarden.core.plan import GuardCode, Step, StepKind
from regwarden.core.recency import is_young, last_touched
from regwarden.core.special_tags import cut_digests, special_kind, subject_of
from regwarden.core.staying import Cause, Tie, Ties, build_ties, settle
from regwarden.core.verdicts import Outcome, Reason, ReasonCode, RepositoryVerdicts, Verdict

_FOLLOWING = frozenset({ReasonCode.SPECIAL, ReasonCode.SUBJECT_KEPT})
_EXPLANATIONS = {
    Tie.TAG: "the tag {} stays on it",
    Tie.SHARED: "it is needed without the tag {}",
    Tie.INDEX: "the index {} lists it and stays",
    Tie.REFERRER: "{} refers to it and stays",
    Tie.SUBJECT: "it refers to {}, which stays",
    Tie.HELD: "it is held",
    Tie.RECENT: "it was pushed or untagged a moment ago",
    Tie.TANGLED: "it follows what could go only after it",
    Tie.ITSELF: "it stays itself",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How verdicts become steps in one repository.

    ``follows_subjects``: what is untagged or special goes with its subject. ``untags``: a tag may go without its
    manifest; ``can_untag``: the registry does that; ``with_placeholders``: otherwise by an empty manifest.
    ``min_age`` of zero: that guard is waived.
    """

    now: datetime
    held: Held = field(default_factory=Held)
    follows_subjects: bool = True
    untags: bool = True
    can_untag: bool = False
    with_placeholders: bool = False
    min_age: timedelta = timedelta()


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifted:
    """The steps of one repository, numbered from 0, and what is finally decided about every root of it.

    ``not_untagged`` are the tags that would go if the registry could remove a single tag.
    """

    verdicts: RepositoryVerdicts
    steps: tuple[Step, ...] = ()
    not_untagged: tuple[str, ...] = ()


def lift(repository: ObservedRepository, verdicts: RepositoryVerdicts, terms: Terms) -> Lifted:
    """The steps that verdicts mean, in an order that is safe to break off: tags first, then parents before children.

    Final verdicts say why something stays nevertheless (``NEEDED``, ``GUARDED``) or goes along
    (``SUBJECT_REMOVED``). Where the repository is not known completely, nothing of it goes.
    """
    ordered = sorted(verdicts.verdicts, key=lambda one: (not one.tag, one.tag, one.digest or ""))
    verdicts = replace(verdicts, verdicts=tuple(ordered))
    doubt = _doubt_about(repository)
    if doubt is not None:
        return Lifted(verdicts=_all_undecided(verdicts, doubt))
    if all(one.outcome is not Outcome.REMOVE for one in verdicts.verdicts):
        return Lifted(verdicts=verdicts)
    view = _View(repository, verdicts, terms)
    stays, order = settle(view.ties, view.starts.items())
    return _Finisher(view, stays, order).finish()


def leave_out(lifted: Lifted, codes: tuple[GuardCode, ...]) -> Lifted:
    """The same without any step: guards hold the repository back."""
    reason = Reason(ReasonCode.GUARDED, detail=", ".join(codes))
    kept = tuple(
        one._replace(outcome=Outcome.KEEP, reasons=(reason, *one.reasons)) if one.outcome is Outcome.REMOVE else one
        for one in lifted.verdicts.verdicts
    )
    return Lifted(verdicts=replace(lifted.verdicts, verdicts=kept))


def _doubt_about(repository: ObservedRepository) -> Reason | None:
    if repository.doubt:
        return Reason(ReasonCode.DOUBTFUL, detail=repository.doubt)
    unread = min((digest for digest, one in repository.manifests.items() if not one.is_read), default=None)
    if unread is not None:
        return Reason(ReasonCode.UNREADABLE, detail=f"{unread} could not be read")
    unknown = min((tag.name for tag in repository.tags if _is_unknown(tag)), default=None)
    if unknown is not None:
        return Reason(ReasonCode.UNREADABLE, detail=f"what the tag {unknown} points to is not known")
    return None


def _is_unknown(tag: ObservedTag) -> bool:
    return tag.state == TagState.UNREADABLE or (tag.digest is None and tag.state != TagState.DANGLING)


def _all_undecided(verdicts: RepositoryVerdicts, doubt: Reason) -> RepositoryVerdicts:
    changed = tuple(
        one._replace(outcome=Outcome.UNDECIDED, reasons=(doubt, *one.reasons)) if one.outcome is Outcome.REMOVE else one
        for one in verdicts.verdicts
    )
    return replace(verdicts, verdicts=changed)


class _View:
    """One repository as it is decided about: what leads to what, and what stays for its own sake."""

    def __init__(self, repository: ObservedRepository, verdicts: RepositoryVerdicts, terms: Terms) -> None:
        self.repository = repository
        self.terms = terms
        self.manifests = repository.manifests
        self.verdicts = verdicts.verdicts
        self.ties: Ties = build_ties(repository.manifests)
        self.tags_of: dict[str, list[str]] = defaultdict(list)
        self.followed: dict[str, str] = {}  # special tag: its subject
        self.starts: dict[str, Cause] = {}
        self._cut = cut_digests(self.manifests)
        # By tag; what is left when all tags are placed is about tags that are not there or point elsewhere.
        self._stale = {one.tag: one for one in self.verdicts if one.tag}
        self._by_digest = {one.digest: one for one in self.verdicts if not one.tag}
        for tag in sorted(repository.tags, key=lambda one: one.name):
            self._place_tag(tag)
        self._keep_subjects_of_what_stays()
        listed = {child for one in self.manifests.values() for child in one.children}
        for digest in sorted(self.manifests.keys() - self.tags_of.keys()):
            self._place_untagged(digest, is_listed=digest in listed)

    def is_current(self, verdict: Verdict) -> bool:
        """Whether a verdict is about what exists: a tag that points to its digest, or an untagged manifest."""
        if verdict.digest not in self.manifests:
            return False
        return verdict.tag not in self._stale if verdict.tag else verdict.digest not in self.tags_of

    def _place_tag(self, tag: ObservedTag) -> None:
        name, digest = tag.name, tag.digest
        verdict = self._stale.pop(name, None)
        if digest is None or digest not in self.manifests:
            return
        self.tags_of[digest].append(name)
        if verdict is None or verdict.digest != digest:  # not what was decided about
            if verdict is not None:
                self._stale[name] = verdict
            self._keep(digest, Tie.TAG, name)
        elif verdict.outcome is Outcome.REMOVE:
            # SHARED never stands alone on what goes.
            if len(verdict.reasons) > 1 and any(reason.code is ReasonCode.SHARED for reason in verdict.reasons):
                self._keep(digest, Tie.SHARED, name)
        elif not self._follows(tag, digest, verdict):
            self._keep(digest, Tie.TAG, name)

    def _follows(self, tag: ObservedTag, digest: str, verdict: Verdict) -> bool:
        """Whether a special tag goes with its subject. One that stays for its own sake keeps its subject."""
        if not self.terms.follows_subjects or special_kind(tag.name, self.manifests[digest]) is None:
            return False
        by_name = subject_of(tag.name)
        named = {self._cut.get(by_name or "", by_name), self.manifests[digest].subject}
        subjects = tuple(sorted(one for one in named if one is not None and one in self.manifests))
        if not subjects:
            return False
        is_kept = any(reason.code not in _FOLLOWING for reason in verdict.reasons) or self._is_recent(digest, tag)
        if is_kept or self.terms.held.find(tag.name, digest) is not None:
            for subject in subjects:
                self._keep(subject, Tie.REFERRER, digest)
            return False
        self.followed[tag.name] = subjects[0]
        for subject in subjects:
            self.ties.special_tags[subject].append(digest)
        return True

    def _keep_subjects_of_what_stays(self) -> None:
        """A special tag that cannot go with its subject, because its manifest is needed, keeps it.

        Unless that manifest has a tag that stays anyway: then the special one is not the reason.
        """
        goes = {one.tag for one in self.verdicts if one.outcome is Outcome.REMOVE}
        for subject, specials in sorted(self.ties.special_tags.items()):
            for digest in specials:
                others = set(self.tags_of[digest]) - goes - self.followed.keys()
                if digest in self.starts and not others:
                    self._keep(subject, Tie.REFERRER, digest)

    def _place_untagged(self, digest: str, *, is_listed: bool) -> None:
        verdict = self._by_digest.get(digest)
        subject = self.manifests[digest].subject
        is_referrer = self.terms.follows_subjects and subject is not None and subject in self.manifests
        if verdict is not None:
            if verdict.outcome is not Outcome.REMOVE:
                self._keep(digest, Tie.ITSELF)
        elif self.terms.held.find("", digest) is not None:
            self._keep(digest, Tie.HELD)
        elif self._is_recent(digest):
            self._keep(digest, Tie.RECENT)
        elif is_referrer:
            self.ties.followers.add(digest)
        elif not is_listed:
            self._keep(digest, Tie.ITSELF)

    def _is_recent(self, digest: str, tag: ObservedTag | None = None) -> bool:
        return is_young(last_touched(self.manifests[digest], tag), self.terms.min_age, self.terms.now)

    def _keep(self, digest: str, tie: Tie, name: str = "") -> None:
        known = self.starts.get(digest)
        # A tag counts before a referrer that has one: it holds more.
        if known is None or (known.tie is Tie.REFERRER and tie is not Tie.REFERRER):
            self.starts[digest] = Cause(tie, name)


class _Finisher:
    """Steps and final verdicts, once it is known which manifests stay."""

    def __init__(self, view: _View, stays: Mapping[str, Cause], order: tuple[str, ...]) -> None:
        self._view = view
        self._stays = stays
        self._order = order
        self._not_untagged: list[str] = []
        self._untagged: list[tuple[str, str]] = []
        # What holds a manifest so well that it may lose a tag: another tag, an index. A referrer alone does not:
        # a collection of untagged manifests would leave it without its subject.
        self._anchored = {digest for digest, cause in view.starts.items() if cause.tie in (Tie.TAG, Tie.SHARED)}
        self._anchored.update(child for digest in stays for child in view.ties.children(digest))
        self._anchored.update(
            digest for subject, specials in view.ties.special_tags.items() if subject in stays for digest in specials
        )

    def finish(self) -> Lifted:
        """Steps are numbered from 0."""
        repository = self._view.repository
        verdicts = tuple(self._final(one) for one in self._view.verdicts)
        return Lifted(
            verdicts=RepositoryVerdicts(registry=repository.registry, repository=repository.name, verdicts=verdicts),
            steps=tuple(self._steps()),
            not_untagged=tuple(self._not_untagged),
        )

    def _steps(self) -> Iterator[Step]:
        for position, (digest, tag) in enumerate(self._untagged):
            yield self._step(position, StepKind.UNTAG, digest, (tag,))
        for position, digest in enumerate(self._order, start=len(self._untagged)):
            yield self._step(position, StepKind.DELETE, digest, tuple(self._view.tags_of.get(digest, ())))

    def _final(self, verdict: Verdict) -> Verdict:
        digest = verdict.digest
        if verdict.outcome is not Outcome.REMOVE:
            if digest is None or digest in self._stays or verdict.tag not in self._view.followed:
                return verdict
            # Only what follows goes without a decision of its own.
            reason = Reason(ReasonCode.SUBJECT_REMOVED, detail=self._view.followed[verdict.tag])
            return verdict._replace(outcome=Outcome.REMOVE, reasons=(reason,))
        if digest is None or not self._view.is_current(verdict):
            return _undecided(verdict)
        cause = self._stays.get(digest)
        return verdict if cause is None else self._retained(verdict, digest, cause)

    def _retained(self, verdict: Verdict, digest: str, cause: Cause) -> Verdict:
        """A tag or manifest that should go while its manifest stays."""
        terms = self._view.terms
        needed = Reason(ReasonCode.NEEDED, detail=_explain(cause))
        if verdict.tag and terms.untags and digest in self._anchored:
            if terms.can_untag or terms.with_placeholders:
                self._untagged.append((digest, verdict.tag))
                return verdict
            self._not_untagged.append(verdict.tag)
            guarded = Reason(ReasonCode.GUARDED, detail=GuardCode.CANNOT_UNTAG)
            return verdict._replace(outcome=Outcome.KEEP, reasons=(guarded, needed, *verdict.reasons))
        return verdict._replace(outcome=Outcome.KEEP, reasons=(needed, *verdict.reasons))

    def _step(self, position: int, kind: StepKind, digest: str, tags: tuple[str, ...]) -> Step:
        view = self._view
        with_placeholder = kind is StepKind.UNTAG and not view.terms.can_untag
        place, size_bytes = view.repository, view.manifests[digest].size_bytes
        # By position, because there may be a million.
        return Step(position, kind, place.registry, place.name, digest, tags, with_placeholder, size_bytes)


def _undecided(verdict: Verdict) -> Verdict:
    reason = Reason(ReasonCode.UNREADABLE, detail="its manifest is not known")
    return verdict._replace(outcome=Outcome.UNDECIDED, reasons=(reason, *verdict.reasons))


def _explain(cause: Cause) -> str:
    return _EXPLANATIONS[cause.tie].format(cause.name)
