"""Bodies of PUT /images are read as the Go program read them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regwarden.core.imagelist_request import MAX_NAME_BYTES, PutRequest, parse_put_request
from regwarden.errors import InputError


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"id":"a","name":"b"}', ("a", "b", None)),
        (b'{"id":"a","name":"b","tags":null}', ("a", "b", None)),
        (b'{"id":"a","name":"b","tags":[]}', ("a", "b", ())),
        (b'{"id":"a","name":"b","tags":["x","x",""]}', ("a", "b", ("x", "x", ""))),
        (b'\n {"ID":"a","Name":"b","tAGS":["x"]} trailing {', ("a", "b", ("x",))),
        (b'{"id":"a","name":"b"}{"id":"c","name":"d"}', ("a", "b", None)),
        (b'{"id":"a","ID":"c","name":"b","NAME":null}', ("c", "b", None)),
        (b'{"tags":["x"],"id":"a","name":"b","Tags":null}', ("a", "b", None)),
        (b'{"id":"a","name":"b","created_at":7,"x":{"id":[1e999,-0.5]}}', ("a", "b", None)),
        ('{"id":"ä/@:","name":"\\u00fc"}'.encode(), ("ä/@:", "ü", None)),
        (b'{"id":"\\ud800a","name":"\xff"}', ("\ufffda", "\ufffd", None)),
        (b'{"id":"\\ud83d\\ude00","name":"b"}', ("\U0001f600", "b", None)),
        (b'{"id":"a","name":"b","n":' + b"9" * 100_000 + b"}", ("a", "b", None)),
        (b'{"id":"a","name":"%s"}' % (b"n" * MAX_NAME_BYTES), ("a", "n" * MAX_NAME_BYTES, None)),
    ],
)
def test_what_can_be_put(body, expected):
    assert parse_put_request(body) == PutRequest(*expected)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"  ",
        b"null",
        b"[]",
        b"7",
        b'"a"',
        b"{",
        b"{}",
        b'\xef\xbb\xbf{"id":"a","name":"b"}',
        b'{"id":"a"}',
        b'{"name":"b"}',
        b'{"id":"","name":"b"}',
        b'{"id":"a","name":""}',
        b'{"id":null,"name":"b"}',
        b'{"id":7,"name":"b"}',
        b'{"id":["a"],"name":"b"}',
        b'{"id":"a","name":true}',
        b'{"id":"a","name":"b","tags":"x"}',
        b'{"id":"a","name":"b","tags":{}}',
        b'{"id":"a","name":"b","tags":false}',
        b'{"id":"a","name":"b","tags":[1]}',
        b'{"id":"a","name":"b","tags":[null]}',
        b'{"id":"a","name":"b","tags":[["x"]]}',
        b'{"id":"a\\u0000","name":"b"}',
        b'{"id":"a","name":"b","tags":["\\u0000"]}',
        b'{"id":"a\n","name":"b"}',
        b'{"id":"a","name":"b","x":NaN}',
        b"{'id':'a','name':'b'}",
        b'{"id":"a","name":"b",}',
        b'{"id":"a","name":"b","x":' + b"[" * 200_000,
        b'{"id":"%s","name":"b"}' % (b"i" * (MAX_NAME_BYTES + 1)),
        '{{"id":"a","name":"{}"}}'.format("ü" * (MAX_NAME_BYTES // 2 + 1)).encode(),
    ],
)
def test_what_cannot(body):
    with pytest.raises(InputError) as caught:
        parse_put_request(body)
    assert caught.value.code == "bad-input"


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


@given(TEXT.filter(bool), TEXT.filter(bool), st.none() | st.lists(TEXT), st.booleans())
def test_json_is_read_back(image_id, name, tags, ascii_only):
    body = json.dumps({"id": image_id, "name": name, "tags": tags}, ensure_ascii=ascii_only).encode()
    assert parse_put_request(body) == PutRequest(image_id, name, None if tags is None else tuple(tags))


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(body):
    try:
        request = parse_put_request(body)
    except InputError as error:
        assert error.code == "bad-input"
    else:
        assert request.id
        assert request.name
