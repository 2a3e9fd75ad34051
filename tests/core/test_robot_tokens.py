"""Tokens are taken apart as they were built; what is not whole is refused without repeating it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regwarden.core.robot_tokens import ALPHABET, REFRESH, SECRET_CHARACTERS, TokenParts, build_token, parse_token
from regwarden.errors import InputError
from regwarden.identity.random_texts import random_token

PARTS = TokenParts("0123456789Ab", "s" * 32)


def test_a_token_comes_apart_as_it_was_built() -> None:
    text = build_token(PARTS)
    assert text == f"rgw_0123456789Ab_{'s' * 32}_1xIO3A"
    assert parse_token(text) == PARTS
    assert parse_token(build_token(PARTS, REFRESH), REFRESH) == PARTS


def test_a_secret_has_more_than_160_bits_and_does_not_show() -> None:
    assert SECRET_CHARACTERS * math.log2(len(ALPHABET)) > 160
    made = random_token()
    assert made != random_token()
    assert made.secret not in repr(made)
    assert len(made.secret_sha256) == 32


@given(st.integers(4, 54), st.sampled_from(ALPHABET))
def test_one_changed_character_is_noticed(place: int, character: str) -> None:
    text = build_token(PARTS)
    changed = text[:place] + character + text[place + 1 :]
    if changed != text:
        with pytest.raises(InputError) as raised:
            parse_token(changed)
        assert raised.value.code == "bad-token"
        assert changed not in f"{raised.value} {raised.value.hint}"


@given(
    st.text(max_size=80) | st.from_regex(r"rg[wr]_[0-9A-Za-z]{12}_[0-9A-Za-z]{32}_[0-9A-Za-z]{6}\n?", fullmatch=True)
)
def test_any_text_is_refused_or_a_token(text: str) -> None:
    try:
        parts = parse_token(text)
    except InputError:
        return
    assert build_token(parts) == text


@pytest.mark.parametrize(
    "text", ["", "rgw_", build_token(PARTS) + "\n", build_token(PARTS)[:-1], build_token(PARTS, REFRESH)]
)
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_token(text)
