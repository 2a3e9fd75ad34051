from __future__ import annotations

from regwarden.core.verdicts import Outcome, Reason, ReasonCode, RepositoryVerdicts, Verdict
from regwarden.core.whole_digests import keep_whole

DELETED = (Reason(ReasonCode.DELETED, "p", "delete[0]"),)


def decided(*verdicts: tuple[str, str | None, Outcome]) -> RepositoryVerdicts:
    made = tuple(Verdict(tag, digest, outcome, DELETED) for tag, digest, outcome in verdicts)
    return RepositoryVerdicts(registry="prod", repository="app", verdicts=made)


def test_a_tag_stays_if_its_image_keeps_another_one_and_says_which():
    found = keep_whole(decided(("a", "x", Outcome.REMOVE), ("b", "x", Outcome.KEEP), ("c", "y", Outcome.REMOVE)))
    assert [one.outcome for one in found.verdicts] == [Outcome.KEEP, Outcome.KEEP, Outcome.REMOVE]
    assert found.verdicts[0].reasons == (Reason(ReasonCode.NEEDED, detail="its image keeps the tag b"),)
    assert found.verdicts[2].reasons == DELETED


def test_an_undecided_tag_keeps_its_siblings_too():
    found = keep_whole(decided(("a", "x", Outcome.UNDECIDED), ("b", "x", Outcome.REMOVE)))
    assert [one.outcome for one in found.verdicts] == [Outcome.UNDECIDED, Outcome.KEEP]


def test_images_of_which_every_tag_goes_and_what_has_no_tag_go():
    verdicts = decided(("a", "x", Outcome.REMOVE), ("b", "x", Outcome.REMOVE), ("", "y", Outcome.REMOVE))
    assert keep_whole(verdicts) == verdicts
    with_kept = decided(*((one.tag, one.digest, one.outcome) for one in verdicts.verdicts), ("z", None, Outcome.KEEP))
    assert keep_whole(with_kept) == with_kept
