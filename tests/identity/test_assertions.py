"""Is the ID token of a CI job taken where it is for us alone, and only then?"""

from __future__ import annotations

import base64
import json

import pytest

from regwarden.core.oidc_claims import Refused
from regwarden.errors import NotFound, Unauthorized
from regwarden.identity.assertions import read_unverified
from regwarden.identity.oidc_providers import Providers, open_providers
from regwarden.settings_access import OidcSettings, RoleRule
from tests.identity_provider import AUDIENCE, FIRST_KEY, encode, make_key, sign

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


async def test_a_job_is_called_by_its_subject(sso, connect):
    ours = connect(sso, "project_path", "ref_protected", audience=AUDIENCE)
    assertion = await ours.verify_assertion(sso.sign(sso.job(jti="one", preferred_username="admin")))
    assert assertion.jti == "one"
    assert assertion.issuer == sso.issuer
    assert assertion.who.name == "project_path:team/app:ref_type:branch:ref:main"
    assert assertion.who.subject == f"oidc:{sso.issuer}:{assertion.who.name}"
    assert assertion.who.claims == {"project_path": ("team/app",), "ref_protected": ("true",)}
    assert assertion.who.login == ""


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "another"},
        {"aud": [AUDIENCE, "another"]},
        {"aud": [AUDIENCE, AUDIENCE]},
        {"aud": []},
        {"aud": None},
        {"aud": ""},
        {"aud": 3},
        {"iss": "https://other.example.com"},
        {"exp": None},
        {"iat": None},
        {"nbf": 4_000_000_000},
        {"exp": 1_000_000_000},
        {"sub": None},
        {"jti": ""},
        {"jti": 3},
        {"jti": "x" * 300},
        {"jti": "a\x00b"},
    ],
)
async def test_a_token_that_is_not_for_us_alone_is_refused(sso, connect, claims):
    with pytest.raises(Unauthorized) as caught:
        await connect(sso, audience=AUDIENCE).verify_assertion(sso.sign(sso.job(**claims)))
    assert caught.value.code == "bad-assertion"
    assert AUDIENCE not in caught.value.message


async def test_an_audience_may_be_a_list_of_one(sso, connect):
    assert await connect(sso, audience=AUDIENCE).verify_assertion(sso.sign(sso.job(aud=[AUDIENCE])))


async def test_without_a_jti_the_signed_part_is_what_it_is_known_by(sso, connect):
    sso.keys, sso.algorithm = {"first": make_key("first", "P-256")}, "ES256"
    ours = connect(sso, audience=AUDIENCE)
    token = sso.sign(sso.job(jti=None))
    first = await ours.verify_assertion(token)
    assert first.jti.startswith("sha256:")
    # Who has one ECDSA signature can write another one for the same: (r, n - s).
    signed, _, signature = token.rpartition(".")
    number = base64.urlsafe_b64decode(signature + "==")
    other = number[:32] + (P256_ORDER - int.from_bytes(number[32:], "big")).to_bytes(32, "big")
    again = await ours.verify_assertion(f"{signed}.{encode(other)}")
    assert again.jti == first.jti
    assert (await ours.verify_assertion(sso.sign(sso.job(jti=None, n=1)))).jti != first.jti


@pytest.mark.parametrize(
    "body", [b'{"level": ' + b"9" * 5000 + b"}", b'{"level": "\\ud800"}', b"[" * 5000, b"\xff", b"3"]
)
async def test_a_signed_body_that_makes_no_sense_is_refused(sso, connect, body):
    from joserfc import jws

    claims = json.dumps(sso.job()).encode()
    whole = claims[:-1] + b", " + body[1:] if body.startswith(b"{") else body
    token = jws.serialize_compact({"alg": "RS256", "kid": "first"}, whole, FIRST_KEY, algorithms=["RS256"])
    ours = connect(sso, "level", audience=AUDIENCE)
    try:
        assertion = await ours.verify_assertion(token)
    except Unauthorized:
        return
    assert "9" in assertion.who.claims["level"][0] or assertion.who.claims == {}


# ---------------------------------------------------------------------------------------------- which provider


def providers(connect, sso, *more):
    one = connect(sso, audience=AUDIENCE)
    return Providers({one.settings.name: one, **{other.settings.name: other for other in more}})


async def test_the_provider_is_found_by_issuer_and_audience(sso, connect):
    people, jobs = connect(sso), connect(sso, name="ci", client_id="", audience=AUDIENCE)
    both = Providers({"sso": people, "ci": jobs})
    token = sso.sign(sso.job())
    assert both.for_assertion(token) is jobs
    assert both.for_assertion(token, "ci") is jobs
    for name in ("sso", "absent"):
        with pytest.raises(Unauthorized):
            both.for_assertion(token, name)
    with pytest.raises(Unauthorized):
        both.for_assertion(sso.sign(sso.person()))
    assert sso.asked.total() == 0


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "a.b.c",
        "..",
        "é.é.é",
        f"{encode(b'{}')}.{encode(b'[]')}.",
        f"{encode(b'{}')}.{encode(b'{}')}.",
        "a" * 20_000,
    ],
)
async def test_what_is_no_token_is_asked_of_nobody(sso, connect, token):
    with pytest.raises(Refused):
        read_unverified(token)
    with pytest.raises(Unauthorized):
        providers(connect, sso).for_assertion(token)


async def test_people_sign_in_only_where_there_is_a_client(sso, connect):
    found = providers(connect, sso, connect(sso, name="ci", client_id="", audience="x"))
    assert found.for_people("sso").settings.name == "sso"
    for name in ("ci", "absent", ""):
        with pytest.raises(NotFound):
            found.for_people(name)


async def test_opening_providers_asks_nobody():
    settings = (OidcSettings(name="sso", issuer="http://127.0.0.1:1", client_id="regwarden"),)
    rules = (RoleRule(role="viewer", claims=("project_path=glob:team/**",)),)
    async with open_providers(settings, rules) as opened:
        assert list(opened) == ["sso"]
        assert len(opened) == 1


async def test_a_token_of_another_issuer_with_our_audience_is_refused_even_if_its_key_has_the_same_name(sso, connect):
    ours = connect(sso, audience=AUDIENCE)
    token = sign({**sso.job(), "iss": "https://evil.example.com"}, {"alg": "RS256", "kid": "first"}, FIRST_KEY)
    with pytest.raises(Unauthorized):
        await ours.verify_assertion(token)
