"""What a person names to be removed, as it is written."""

from __future__ import annotations

import pytest

from regwarden.core.patterns import PatternKind
from regwarden.core.selection import Selection, SelectionWords, parse_selection
from regwarden.errors import InputError, NotFound

KNOWN = ("prod",)


def parse(known: tuple[str, ...] = KNOWN, **words: object) -> Selection:
    return parse_selection(SelectionWords(**words), known)  # type: ignore[arg-type]  # each test names its words


def test_a_tag_with_a_repository_in_front_brings_its_repository():
    (reference,) = parse(tags=("team/app:<1.4",)).references
    assert (str(reference.repository), str(reference.tags[0])) == ("team/app", "loose:<1.4")
    assert reference.tags[0].kind is PatternKind.LOOSE


def test_a_repository_may_be_a_pattern_in_front_of_a_tag():
    (reference,) = parse(tags=("glob:team/**:glob:dev-*",)).references
    assert reference.repository.matches("team/a/b")
    assert reference.tags[0].matches("dev-1")


@pytest.mark.parametrize("text", ["<1.4", "glob:dev-*", "semver:>=1.0.0", "re:v[0-9]+", "latest", "date:YYYY"])
def test_a_tag_alone_is_about_the_repositories_that_are_named(text):
    chosen = parse(tags=(text,), repositories=("team/app",))
    assert len(chosen.tags) == 1
    assert chosen.references == ()


def test_a_regular_expression_is_anchored_at_its_start_only():
    (pattern,) = parse(tag_regexes=("1",), repositories=("team/app",)).tags
    assert pattern.matches("10")
    assert not pattern.matches("v1")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ({"tags": ("latest",)}, "in which repositories"),
        ({"repositories": ("team/app:1.0",)}, "is not a repository"),
        ({"tags": ("a:x", "prod/b:y", "other/c:z"), "known": ("prod", "other")}, "several registries"),
        ({"repositories": ("team/app",), "known": ("a", "b")}, "which registry"),
        ({"repositories": ("team/app",), "known": ()}, "which registry"),
    ],
)
def test_what_is_not_clear_is_an_error_with_a_hint(words, part):
    with pytest.raises(InputError) as caught:
        parse(**words)
    assert caught.value.code == "bad-selection"
    assert part in caught.value.message
    assert caught.value.hint


def test_a_registry_that_is_not_known_is_not_taken_for_another():
    with pytest.raises(NotFound) as caught:
        parse(registry="prdo", repositories=("team/app",))
    assert "prod" in caught.value.hint


def test_the_registry_may_stand_in_front_of_a_repository():
    chosen = parse(known=("prod", "test"), repositories=("prod/team/app",))
    assert chosen.registry == "prod"
    assert chosen.repositories[0].matches("team/app")


def test_nothing_named_is_nothing_to_do():
    assert SelectionWords().is_empty
    assert not SelectionWords(tag_regexes=("a",)).is_empty
