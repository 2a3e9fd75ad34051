from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from regwarden.core import policy_text
from regwarden.core.policy_problems import Place
from regwarden.core.policy_text import MAX_TEXT_BYTES, ListNode, MapNode, Node, ScalarNode, parse_documents

yaml_texts = st.text(alphabet="ab: -[]{}\"'\n\t#&*!|>%@,?~1.\r", max_size=60) | st.text(max_size=40)


def plain(node: Node) -> object:
    """The node without places: of an empty value the two name different ones."""
    match node:
        case ScalarNode():
            return node.text, node.is_plain
        case ListNode():
            return [plain(entry) for entry in node.entries]
        case MapNode():
            return {key.text: plain(value) for key, value in node.entries}


def only(text: str):
    documents, problems = parse_documents(text)
    assert problems == ()
    assert len(documents) == 1
    return documents[0]


@pytest.mark.parametrize("word", ["1.10", "on", "yes", "0x10", "12:30", "010", "1_000", "2024-01-01", "1e3", "~x"])
def test_a_scalar_is_the_text_that_was_written(word):
    node = only(f"a: {word}")
    assert isinstance(node, MapNode)
    assert node.entries[0][1] == ScalarNode(Place(1, 4), word, is_plain=True)


def test_every_node_knows_its_place():
    node = only("a:\n  - b\n  - {c: 'd'}\n")
    assert isinstance(node, MapNode)
    (key, entries), *_ = node.entries
    assert isinstance(entries, ListNode)
    assert (key.place, entries.place, [one.place for one in entries.entries]) == ((1, 1), (2, 3), [(2, 5), (3, 5)])
    inner = entries.entries[1]
    assert isinstance(inner, MapNode)
    assert [(name.place, value.place) for name, value in inner.entries] == [((3, 6), (3, 9))]


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("a: 1\nb: 2\na: 3", (3, 1), "a is given twice"),
        ("a: !!python/object:os.system x", (1, 4), "the tag"),
        ("a: !!str 1", (1, 4), "the tag"),
        ("a: &x 1", (1, 4), "&x cannot be used"),
        ("a: &x 1\nb: *x", (1, 4), "&x cannot be used"),
        ("[a]: 1", (1, 1), "a key must be a word"),
        ("a: [1", (1, 6), "this is not YAML"),
        ("a:\n\t- b", (2, 1), "this is not YAML"),
        ("a: b: c", (1, 5), "this is not YAML"),
        ("a: \x00", (1, 4), "U+0000"),
        ("a: \u2028", (1, 4), "U+2028"),
        ("a: glob*\nb: *star", (2, 4), "*star cannot be used"),
        ("a: " + "[" * 30, (1, 24), "nested more than 20 deep"),
    ],
)
def test_what_is_no_plain_yaml_is_said_with_its_place(text, place, words):
    _, problems = parse_documents(text)
    assert problems[0].place == place
    assert words in problems[0].message


def test_every_repeated_key_and_anchor_is_reported():
    _, problems = parse_documents("a: 1\na: 2\nb: &x 1\nc: *x\n")
    assert [problem.place.line for problem in problems] == [2, 3, 4]


def test_documents_before_a_mistake_of_syntax_are_kept():
    documents, problems = parse_documents("a: 1\n---\nb: [\n")
    assert len(documents) == 1
    assert len(problems) == 1


def test_an_alias_bomb_does_not_grow():
    bomb = "a: &a [x, x]\n" + "".join(f"{n}: &n{n} [*a, *a]\n" for n in range(1000))
    documents, problems = parse_documents(bomb)
    assert len(problems) == 1 + 3 * 1000
    assert len(documents) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a" * (MAX_TEXT_BYTES + 1), "larger than"),
        ("é" * (MAX_TEXT_BYTES // 2 + 1), "larger than"),
        ("- a\n" * 60_000, "values"),
        ("--- a\n" * 150, "documents"),
    ],
)
def test_a_text_beyond_a_bound_is_refused(text, words):
    _, problems = parse_documents(text)
    assert words in problems[-1].message


def test_line_ends_of_every_system_count_as_lines():
    _, problems = parse_documents("\ufeffa: 1\r\nb: 2\rb: 3\n")
    assert [problem.place for problem in problems] == [(3, 1)]


@given(yaml_texts)
def test_no_text_causes_anything_but_problems_and_every_place_is_inside_the_text(text):
    documents, problems = parse_documents(text)
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for place in [problem.place for problem in problems] + [node.place for node in documents]:
        assert 1 <= place.line <= len(lines)
        assert 1 <= place.column <= len(lines[place.line - 1]) + 1


@given(yaml_texts)
def test_what_can_be_read_without_the_c_library_reads_the_same(text):
    quick = parse_documents(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policy_text, "_LOADER", yaml.SafeLoader)
        slow = parse_documents(text)
    # The two differ in which stray tabs they forgive.
    if not quick[1] and not slow[1]:
        assert list(map(plain, quick[0])) == list(map(plain, slow[0]))
