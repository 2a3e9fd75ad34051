"""Do people sign in with an identity provider, and with nothing else than what it has signed for this sign-in?"""

from __future__ import annotations

import ssl
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from aiohttp import web
from joserfc.jwk import RSAKey

from regwarden.errors import InputError, ProviderError, Unauthorized
from regwarden.identity import oidc_http
from tests.fixtures.directory import write_certificates
from tests.identity_provider import (
    CLIENT,
    FIRST_KEY,
    OTHER_KEY,
    REDIRECT_URI,
    encode,
    hang,
    make_key,
    running_provider,
    sign,
    sign_with_secret,
)

HOUR = 3600


async def sign_in(ours, provider, **changes: Any):
    """The whole flow; ``changes`` are made to what the browser brings back."""
    address, attempt = await ours.begin(REDIRECT_URI)
    answer = dict(parse_qsl(urlsplit(provider.visit(address)).query))
    assert answer.pop("state") == attempt.state
    return await ours.complete(attempt, {**answer, **changes}, REDIRECT_URI)


async def test_somebody_signs_in(sso, connect):
    who = await sign_in(connect(sso, "email_verified", "absent"), sso)
    assert who.provider == "sso"
    assert who.subject == f"oidc:{sso.issuer}:0001"
    assert (who.name, who.display_name) == ("alice", "Alice Example")
    assert who.groups == {"registry-users", "team"}
    assert who.claims == {}


async def test_claims_that_rules_ask_for_are_read_as_text(sso, connect):
    sso.claims = {"email_verified": True, "level": 3, "roles": ["a", False, None, {"x": 1}], "nested": {"a": 1}}
    who = await sign_in(connect(sso, "email_verified", "level", "roles", "nested"), sso)
    assert who.claims == {"email_verified": ("true",), "level": ("3",), "roles": ("a", "false")}


async def test_a_session_finds_the_same_person_without_asking_the_provider(sso, connect):
    ours = connect(sso, "level")
    sso.claims = {"level": "7"}
    who = await sign_in(ours, sso)
    asked = sso.asked.total()
    assert await ours.look_up(who.login) == who
    assert sso.asked.total() == asked
    assert "opaque" not in who.login


@pytest.mark.parametrize("login", ["", "{}", "[1]", '{"subject": 1}', "\x00"])
async def test_a_login_that_cannot_be_read_ends_the_session(sso, connect, login):
    with pytest.raises(Unauthorized):
        await connect(sso).look_up(login)


@pytest.mark.parametrize("methods", [None, ["client_secret_post"], ["client_secret_basic", "none"]])
async def test_a_client_with_a_secret_shows_it(sso, connect, tmp_path, methods):
    file = tmp_path / "secret"
    file.write_text("s%C3+cret\n")
    sso.secret = "s%25C3%2Bcret" if methods != ["client_secret_post"] else "s%C3+cret"
    sso.document = {"token_endpoint_auth_methods_supported": methods}
    assert (await sign_in(connect(sso, client_secret_file=str(file)), sso)).name == "alice"


async def test_a_wrong_secret_is_our_mistake_and_not_the_users(sso, connect, tmp_path):
    file = tmp_path / "secret"
    file.write_text("wrong\n")
    sso.secret = "right"
    with pytest.raises(ProviderError) as caught:
        await sign_in(connect(sso, client_secret_file=str(file)), sso)
    assert "invalid_client" in caught.value.message
    assert "wrong" not in caught.value.message


async def test_a_secret_that_cannot_be_read_names_no_path(sso, connect, tmp_path):
    with pytest.raises(ProviderError) as caught:
        await sign_in(connect(sso, client_secret_file=str(tmp_path / "absent")), sso)
    assert str(tmp_path) not in caught.value.message


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://other.example.com"},
        {"iss": None},
        {"aud": "another"},
        {"aud": [CLIENT, "another"]},
        {"aud": [CLIENT, "another"], "azp": "another"},
        {"aud": CLIENT, "azp": "another"},
        {"aud": []},
        {"aud": None},
        {"aud": [CLIENT, 3], "azp": CLIENT},
        {"nonce": "another"},
        {"nonce": None},
        {"nonce": 3},
        {"exp": None},
        {"exp": "tomorrow"},
        {"exp": True},
        {"exp": 1e300},
        {"exp": -1},
        {"iat": None},
        {"sub": None},
        {"sub": ""},
        {"sub": "x" * 256},
        {"sub": "a\nb"},
        {"sub": 7},
        {"at_hash": "AAAA"},
        {"at_hash": 3},
    ],
)
async def test_a_token_that_does_not_say_what_it_must_is_refused(sso, connect, claims):
    sso.claims = claims
    with pytest.raises(Unauthorized) as caught:
        await sign_in(connect(sso), sso)
    assert caught.value.code == "bad-login"


@pytest.mark.parametrize(("name", "seconds"), [("exp", -30), ("iat", 31), ("nbf", 31)])
async def test_times_count_with_half_a_minute_of_leeway(sso, connect, name, seconds):
    present = int(sso.now.timestamp())
    ours = connect(sso)
    sso.claims = {name: present + seconds}
    with pytest.raises(Unauthorized):
        await sign_in(ours, sso)
    sso.claims = {name: present + (seconds + 1 if seconds < 0 else seconds - 1)}
    assert (await sign_in(ours, sso)).name == "alice"


async def test_a_token_for_several_that_was_issued_to_us_is_taken(sso, connect):
    sso.claims = {"aud": [CLIENT, "account"], "azp": CLIENT}
    assert (await sign_in(connect(sso), sso)).name == "alice"


@pytest.mark.parametrize(("algorithm", "kind"), [("RS256", "RSA"), ("ES256", "P-256"), ("Ed25519", "OKP")])
async def test_at_hash_is_that_of_the_access_token(sso, connect, algorithm, kind):
    import hashlib

    sso.keys, sso.algorithm = {"first": FIRST_KEY if kind == "RSA" else make_key("first", kind)}, algorithm
    digest = (hashlib.sha512 if kind == "OKP" else hashlib.sha256)(b"opaque").digest()
    sso.claims = {"at_hash": encode(digest[: len(digest) // 2])}
    assert (await sign_in(connect(sso, algorithms=("RS256", "ES256", "EdDSA", "Ed25519")), sso)).name == "alice"


@pytest.mark.parametrize("name", [None, "", 3, "a\tb", "x" * 300, " alice", "\u202ealice"])
async def test_without_a_name_that_can_be_shown_they_are_called_by_the_subject(sso, connect, name):
    sso.claims = {"preferred_username": name, "groups": "one"}
    who = await sign_in(connect(sso), sso)
    assert who.name == "0001"
    assert who.groups == {"one"}


async def test_two_providers_with_the_same_subject_are_two_people(sso, connect):
    async with running_provider() as second:
        people = [await sign_in(connect(one, name=name), one) for one, name in ((sso, "sso"), (second, "two"))]
    assert people[0].subject != people[1].subject


# ---------------------------------------------------------------------------------------------- the answer


async def test_a_code_is_good_once_and_only_with_its_verifier(sso, connect):
    ours = connect(sso)
    address, attempt = await ours.begin(REDIRECT_URI)
    answer = dict(parse_qsl(urlsplit(sso.visit(address)).query))
    with pytest.raises(Unauthorized):
        await ours.complete(replace(attempt, verifier="x" * 43), answer, REDIRECT_URI)
    with pytest.raises(Unauthorized):  # it was used up by that
        await ours.complete(attempt, answer, REDIRECT_URI)


@pytest.mark.parametrize(
    "answer", [{"error": "access_denied"}, {"code": ""}, {"code": "x" * 5000}, {"code": "\x00"}, {"iss": "https://x"}]
)
async def test_an_answer_without_a_code_of_this_issuer_is_refused(sso, connect, answer):
    with pytest.raises(Unauthorized):
        await sign_in(connect(sso), sso, **answer)


async def test_a_provider_that_promises_to_name_itself_must(sso, connect):
    sso.document = {"authorization_response_iss_parameter_supported": True}
    with pytest.raises(Unauthorized):
        await sign_in(connect(sso), sso)
    sso.answer = {"iss": sso.issuer}
    assert (await sign_in(connect(sso), sso)).name == "alice"


@pytest.mark.parametrize("fields", [{}, {"id_token": 3}, {"id_token": "x"}, {"id_token": "a.b.c"}, {"id_token": "é.."}])
async def test_an_answer_without_a_token_is_refused(sso, connect, fields):
    async def answer(_request):
        return web.json_response(fields)

    sso.replaced["/token"] = answer
    with pytest.raises(Unauthorized):
        await sign_in(connect(sso), sso)


# ---------------------------------------------------------------------------------------------- signatures


def forged(sso, claims):
    """Tokens that nobody with the provider's key has made, by what is wrong with them."""
    assert isinstance(FIRST_KEY, RSAKey)
    pem = FIRST_KEY.as_pem(private=False)
    modulus = str(FIRST_KEY.as_dict(private=False)["n"])
    plain = {"alg": "RS256", "kid": "first", "typ": "JWT"}
    shared = {**plain, "alg": "HS256"}
    good = sign(claims, plain, FIRST_KEY)
    head, body, signature = good.split(".")
    nothing, capitals, listed = map(encode, (b'{"alg":"none"}', b'{"alg":"None"}', b'{"alg":["RS256"]}'))
    deep = encode(b'{"alg":"RS256","x":' + b"[" * 1500 + b"]" * 1500 + b"}")
    return {
        "none": f"{nothing}.{body}.",
        "none with a signature": f"{nothing}.{body}.{signature}",
        "none in capitals": f"{capitals}.{body}.",
        "HS256 with the public key as PEM": sign_with_secret(claims, shared, pem),
        "HS256 with the modulus": sign_with_secret(claims, shared, modulus.encode()),
        "another key under the same id": sign(claims, plain, OTHER_KEY),
        "a key of its own": sign(claims, {**plain, "jwk": OTHER_KEY.as_dict(private=False)}, OTHER_KEY),
        "a key from elsewhere": sign(claims, {**plain, "jku": "http://127.0.0.1:1/keys"}, OTHER_KEY),
        "an algorithm that is not configured": sign(claims, {**plain, "alg": "RS512"}, FIRST_KEY),
        "an access token": sign(claims, {**plain, "typ": "at+jwt"}, FIRST_KEY),
        "a logout token": sign(claims, {**plain, "typ": "logout+jwt"}, FIRST_KEY),
        "a critical header": sign(claims, {**plain, "crit": ["exp"], "exp": 1}, FIRST_KEY),
        "no algorithm": f"{encode(b'{}')}.{body}.{signature}",
        "an algorithm that is no text": f"{listed}.{body}.{signature}",
        "a nested header": f"{deep}.{body}.{signature}",
        "no signature": f"{head}.{body}.",
        "another body": f"{head}.{encode(b'{}')}.{signature}",
        "a signature of others": f"{head}.{body}.{encode(b'x' * 256)}",
        "four parts": f"{good}.x",
        "a very long one": f"{head}.{'a' * 20_000}.{signature}",
    }


CASES = sorted(forged(None, {}))


@pytest.mark.parametrize("case", CASES)
async def test_no_forged_token_is_taken(sso, connect, case):
    ours = connect(sso)
    address, attempt = await ours.begin(REDIRECT_URI)
    answer = dict(parse_qsl(urlsplit(sso.visit(address)).query))
    token = forged(sso, sso.person(nonce=attempt.nonce))[case]

    async def give(_request):
        return web.json_response({"id_token": token})

    sso.replaced["/token"] = give
    with pytest.raises(Unauthorized):
        await ours.complete(attempt, answer, REDIRECT_URI)


@pytest.mark.parametrize(
    ("algorithm", "kind"),
    [("RS384", "RSA"), ("PS256", "RSA"), ("ES256", "P-256"), ("ES384", "P-384"), ("EdDSA", "OKP"), ("Ed25519", "OKP")],
)
async def test_every_algorithm_that_is_configured_is_understood(sso, connect, algorithm, kind):
    sso.keys, sso.algorithm = {"first": FIRST_KEY if kind == "RSA" else make_key("first", kind)}, algorithm
    if algorithm == "EdDSA":  # the library no longer signs under the old name
        sso.algorithm = "Ed25519"
    accepted = (algorithm, sso.algorithm)
    assert (await sign_in(connect(sso, algorithms=accepted), sso)).name == "alice"


@pytest.mark.parametrize("header", [{"typ": None}, {"typ": "jwt"}, {"x5t": "AAAA"}, {"kid": None}, {"other": "x"}])
async def test_headers_that_say_nothing_of_importance_are_passed_over(sso, connect, header):
    sso.header = header
    assert (await sign_in(connect(sso), sso)).name == "alice"


# ---------------------------------------------------------------------------------------------- keys


async def test_keys_are_asked_for_once_and_rotated_keys_are_found(sso, connect, oidc_clock):
    ours = connect(sso)
    for _ in range(3):
        await sign_in(ours, sso)
    assert sso.asked["/keys"] == 1
    oidc_clock.seconds = 61
    sso.keys, sso.signing = {"first": FIRST_KEY, "other": OTHER_KEY}, "other"
    assert (await sign_in(ours, sso)).name == "alice"
    assert sso.asked["/keys"] == 2
    assert sso.asked["/.well-known/openid-configuration"] == 1


async def test_a_storm_of_unknown_keys_asks_once_a_minute(sso, connect, oidc_clock):
    ours = connect(sso)
    await sign_in(ours, sso)
    sso.header = {"kid": "unknown"}
    for minute in range(3):
        oidc_clock.seconds = 61.0 * (minute + 1)
        for _ in range(20):
            with pytest.raises(Unauthorized):
                await sign_in(ours, sso)
    assert sso.asked["/keys"] == 1 + 3


async def test_a_key_that_was_withdrawn_counts_no_longer_after_an_hour(sso, connect, oidc_clock):
    ours = connect(sso)
    await sign_in(ours, sso)
    stolen = {"alg": "RS256", "kid": "first", "typ": "JWT"}
    sso.keys, sso.signing = {"other": OTHER_KEY}, "other"
    oidc_clock.seconds, sso.now = HOUR + 1, oidc_clock.now()
    address, attempt = await ours.begin(REDIRECT_URI)
    answer = dict(parse_qsl(urlsplit(sso.visit(address)).query))
    token = sign(sso.person(nonce=attempt.nonce), stolen, FIRST_KEY)

    async def give(_request):
        return web.json_response({"id_token": token})

    sso.replaced["/token"] = give
    with pytest.raises(Unauthorized):
        await ours.complete(attempt, answer, REDIRECT_URI)


@pytest.mark.parametrize(
    "keys",
    [
        None,
        {},
        {"keys": {}},
        {"keys": []},
        {"keys": [3, {}, {"kty": 3}, {"kty": "RSA"}, {"kty": "RSA", "n": "AQAB", "e": "AQAB"}, {"kty": "EC"}]},
        {"keys": [{"kty": "oct", "k": "AAAA", "kid": "first"}]},
        {"keys": [{**FIRST_KEY.as_dict(private=False), "use": "enc"}]},
        {"keys": [{**FIRST_KEY.as_dict(private=False), "e": 3}]},
        {"keys": [{"kty": "RSA", "n": "A" * 5000, "e": "AQAB"}, {"kty": "EC", "crv": "P-9", "x": "A", "y": "A"}]},
        {"keys": [{"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA"}, {"kty": "OKP", "crv": "X25519", "x": "A"}]},
    ],
)
async def test_a_provider_without_usable_keys_cannot_be_used(sso, connect, keys):
    async def answer(_request):
        return web.json_response(keys)

    sso.replaced["/keys"] = answer
    with pytest.raises(ProviderError):
        await sign_in(connect(sso), sso)


async def test_a_key_is_used_for_its_own_algorithm_alone(sso, connect):
    async def answer(_request):
        return web.json_response({"keys": [{**FIRST_KEY.as_dict(private=False), "alg": "RS512"}]})

    sso.replaced["/keys"] = answer
    with pytest.raises(Unauthorized):
        await sign_in(connect(sso), sso)


# ---------------------------------------------------------------------------------------------- being asked


def redirecting(to: str):
    async def answer(_request):
        raise web.HTTPFound(to)

    return answer


async def huge(request):
    response = web.StreamResponse()
    await response.prepare(request)
    try:
        for _ in range(64):
            await response.write(b" " * 65536)
    except ConnectionError:
        pass
    return response


async def compressed(_request):
    return web.Response(body=b"\x1f\x8b", headers={"Content-Encoding": "gzip"})


async def failing(_request):
    return web.Response(status=500, text="secret trace")


async def nested(_request):
    return web.Response(text="[" * 100_000)


async def text(_request):
    return web.Response(text="<html>")


ANSWERS = {
    "redirect": redirecting("/keys"),
    "redirect elsewhere": redirecting("http://169.254.169.254/latest"),
    "huge": huge,
    "compressed": compressed,
    "failing": failing,
    "nested": nested,
    "text": text,
}


@pytest.mark.parametrize("answer", sorted(ANSWERS))
@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/keys", "/token"])
async def test_a_provider_that_answers_badly_cannot_be_used(sso, connect, path, answer):
    sso.replaced[path] = ANSWERS[answer]
    with pytest.raises(ProviderError) as caught:
        await sign_in(connect(sso), sso)
    assert caught.value.http_status == 503
    assert caught.value.code == "provider-unusable"
    assert "secret trace" not in caught.value.message
    if answer == "huge":
        assert "more than 262144 bytes" in caught.value.message


async def test_a_provider_that_is_slow_cannot_be_used(sso, connect, monkeypatch):
    monkeypatch.setattr(oidc_http, "TIMEOUT_SECONDS", 0.2)
    sso.replaced["/token"] = hang
    with pytest.raises(ProviderError, match="longer"):
        await sign_in(connect(sso), sso)


async def test_a_provider_that_is_down_is_asked_again_after_seconds(sso, connect, oidc_clock):
    ours = connect(sso)
    sso.replaced["/.well-known/openid-configuration"] = failing
    for _ in range(5):
        with pytest.raises(ProviderError):
            await ours.begin(REDIRECT_URI)
    assert sso.asked["/.well-known/openid-configuration"] == 1
    sso.replaced.clear()
    oidc_clock.seconds = 5
    assert (await sign_in(ours, sso)).name == "alice"


async def test_keys_in_hand_are_good_for_a_day_while_the_provider_is_down(sso, connect, oidc_clock):
    ours = connect(sso, audience="ci")
    await ours.verify_assertion(sso.sign(sso.job(aud="ci")))
    sso.replaced = dict.fromkeys(("/.well-known/openid-configuration", "/keys"), failing)
    oidc_clock.seconds, sso.now = 23 * HOUR, oidc_clock.now()
    sso.now = oidc_clock.now()
    await ours.verify_assertion(sso.sign(sso.job(aud="ci")))
    oidc_clock.seconds = 25 * HOUR
    sso.now = oidc_clock.now()
    with pytest.raises(ProviderError):
        await ours.verify_assertion(sso.sign(sso.job(aud="ci")))


async def test_nobody_listens(connect):
    async with running_provider() as gone:
        pass
    with pytest.raises(ProviderError):
        await connect(gone).begin(REDIRECT_URI)


@pytest.mark.parametrize(
    "document",
    [
        {"issuer": "https://other.example.com"},
        {"issuer": None},
        {"jwks_uri": None},
        {"jwks_uri": 3},
        {"jwks_uri": "ftp://127.0.0.1/keys"},
        {"jwks_uri": "http://keys.example.com/"},
        {"jwks_uri": "http://169.254.169.254/keys"},
        {"jwks_uri": "https://169.254.169.254/keys"},
        {"jwks_uri": "https://[fd00:ec2::254]/keys"},
        {"jwks_uri": "https://0x7f000001/keys"},
        {"jwks_uri": "https://user:password@keys.example.com/"},
        {"jwks_uri": "https://[/"},
        {"jwks_uri": "x" * 5000},
        {"token_endpoint": "/token"},
        {"authorization_endpoint": "javascript:alert(1)"},
    ],
)
async def test_a_discovery_document_that_leads_astray_is_refused(sso, connect, document):
    sso.document = document
    with pytest.raises(ProviderError):
        await sign_in(connect(sso), sso)


def test_an_issuer_elsewhere_names_no_address_on_this_machine():
    http = oidc_http.ProviderHttp("sso", "https://sso.example.com")
    assert http.check_endpoint("https://keys.example.net/jwks?x=1", "jwks_uri")
    for address in (
        "http://sso.example.com/keys",
        "https://127.0.0.1/keys",
        "https://localhost/keys",
        "https://[::1]/",
    ):
        with pytest.raises(ProviderError):
            http.check_endpoint(address, "jwks_uri")


def test_authorities_that_cannot_be_read_are_said_at_the_start(tmp_path):
    file = tmp_path / "authorities.pem"
    for content in (None, "not PEM"):
        if content:
            file.write_text(content)
        with pytest.raises(InputError) as caught:
            oidc_http.ProviderHttp("sso", "https://sso.example.com", str(file))
        assert caught.value.code == "bad-tls-files"


@pytest.mark.parametrize(("address", "days"), [("127.0.0.1", 2), ("127.0.0.2", 2), ("127.0.0.1", -1)])
async def test_a_provider_with_tls_is_verified_by_its_own_authorities(connect, tmp_path, address, days):
    write_certificates(tmp_path, address=address, days=days)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "srv.crt", tmp_path / "srv.key")
    async with running_provider(context) as provider:
        trusting, doubting = connect(provider, ca_bundle=str(tmp_path / "ca.crt")), connect(provider)
        with pytest.raises(ProviderError):
            await doubting.begin(REDIRECT_URI)
        if (address, days) == ("127.0.0.1", 2):
            assert (await sign_in(trusting, provider)).name == "alice"
            return
        with pytest.raises(ProviderError):
            await trusting.begin(REDIRECT_URI)
