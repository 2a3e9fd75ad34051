"""Are ``WWW-Authenticate`` headers read as registries write them?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regwarden.registries.client.challenges import find_challenge, parse_challenges


def test_quoted_values_keep_their_commas() -> None:
    header = 'Bearer realm="https://auth.example.com/token",service="r",scope="repository:a/b:pull,push"'
    (challenge,) = parse_challenges([header])
    assert challenge.scheme == "bearer"
    assert challenge.get("realm") == "https://auth.example.com/token"
    assert challenge.scopes == ("repository:a/b:pull,push",)


def test_several_scopes_stand_in_one_parameter() -> None:
    header = 'Bearer realm="https://r/t",scope="repository:a:pull repository:b:pull",error="insufficient_scope"'
    (challenge,) = parse_challenges([header])
    assert challenge.scopes == ("repository:a:pull", "repository:b:pull")
    assert challenge.get("error") == "insufficient_scope"


@pytest.mark.parametrize(
    "headers",
    [
        ['Basic realm="x, y", Bearer realm="https://r/t",service="s"'],
        ['Basic realm="x, y"', 'Bearer realm="https://r/t",service="s"'],
        ['bEaReR service = "s" , realm="https://r/t"', "BASIC realm=x"],
    ],
)
def test_each_of_several_challenges_is_found(headers: list[str]) -> None:
    challenges = parse_challenges(headers)
    bearer = find_challenge(challenges, "bearer")
    assert bearer is not None
    assert bearer.get("realm") == "https://r/t"
    assert bearer.get("service") == "s"
    assert find_challenge(challenges, "basic") is not None
    assert find_challenge(challenges, "digest") is None


def test_an_empty_parameter_does_not_hide_the_challenge() -> None:
    (challenge,) = parse_challenges(['Bearer realm="https://r/t",service="",scope=""'])
    assert challenge.get("realm") == "https://r/t"
    assert challenge.get("service") == ""
    assert challenge.scopes == ()


def test_escaped_quotes_are_part_of_the_value() -> None:
    (challenge,) = parse_challenges(['Basic realm="the \\"big\\" one"'])
    assert challenge.get("realm") == 'the "big" one'


def test_a_header_that_cannot_be_read_is_left_out_and_the_others_stay() -> None:
    challenges = parse_challenges(['Bearer realm="unterminated', "Basic realm=x", 'Basic realm="' + "a" * 9000])
    assert [challenge.scheme for challenge in challenges] == ["basic"]


@given(st.lists(st.text(alphabet='ab ,="\\;:/é', max_size=60), max_size=3))
def test_no_header_makes_the_parser_fail(headers: list[str]) -> None:
    for challenge in parse_challenges(headers):
        assert challenge.scheme == challenge.scheme.lower()
        assert isinstance(challenge.get("realm"), str)
