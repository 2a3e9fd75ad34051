"""Arrays of text in PostgreSQL's form are read as PostgreSQL reads them."""

from __future__ import annotations

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regwarden.core.array_literals import parse_array_literal
from regwarden.errors import InputError

SPECIAL = st.text(st.sampled_from('ab,"\\{} \t\nNUL'), max_size=8)
ELEMENTS = st.lists(st.one_of(SPECIAL, st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))))


def written(elements: list[str]) -> str:
    """As imagelist wrote it: every element in quotes."""
    escaped = (element.replace("\\", "\\\\").replace('"', '\\"') for element in elements)
    return "{" + ",".join(f'"{element}"' for element in escaped) + "}"


@given(ELEMENTS)
def test_what_imagelist_wrote_is_read(elements):
    assert parse_array_literal(written(elements)) == tuple(elements)


@given(st.text(st.sampled_from('ab,"\\{} NUL'), max_size=20))
def test_any_text_is_an_array_or_refused(text):
    try:
        elements = parse_array_literal(text)
    except InputError as error:
        assert error.code == "bad-array"
    else:
        assert all(isinstance(element, str) for element in elements)


@pytest.mark.parametrize(
    ("text", "elements"),
    [
        ("{}", ()),
        (" { } ", ()),
        ('{"latest","v1.0"}', ("latest", "v1.0")),
        ("{latest,v1.0}", ("latest", "v1.0")),
        ('{ latest , "v 1" }', ("latest", "v 1")),
        ('{NULL,"NULL",null}', ("NULL",)),
        ('{"",a}', ("", "a")),
        (r'{"a\"b\\c"}', ('a"b\\c',)),
        (r"{a\,b,c\ }", ("a,b", "c ")),
    ],
)
def test_arrays_are_read(text, elements):
    assert parse_array_literal(text) == elements


@pytest.mark.parametrize(
    "text",
    ["", "latest", "{", "}", '["a"]', '{"a"', '{"a}', "{a,}", "{,}", "{{a}}", '{"a"b}', '{a"b"}', "{a}b", '{"a\\"}'],
)
def test_what_is_no_array_is_refused(text):
    with pytest.raises(InputError) as caught:
        parse_array_literal(text)
    assert caught.value.code == "bad-array"


def test_postgresql_reads_and_writes_the_same(postgresql_url):
    lists = [[], ["latest", "v1.0"], ["", " a ", "NULL", "null"], ['"', "\\", "{a,b}", 'x\\"y', "ü\n\t"]]
    with psycopg.connect(postgresql_url) as connection:
        for elements in lists:
            question = "SELECT (%(elements)s::text[])::text, %(written)s::text[]"
            row = connection.execute(question, {"elements": elements, "written": written(elements)}).fetchone()
            assert row is not None
            assert (parse_array_literal(row[0]), row[1]) == (tuple(elements), elements)
