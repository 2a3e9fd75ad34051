"""Are identity providers and rules of roles that cannot work, or would not be safe, refused with their place?"""

from __future__ import annotations

from pathlib import Path

import pytest

from regwarden.errors import InputError
from regwarden.identity.oidc_keys import _KEY_OF
from regwarden.settings_access_checks import ALGORITHMS
from regwarden.settings_sources import load_settings

SERVER = '[server]\npublic_url = "https://regwarden.example.com"\n'
SSO = '[[oidc]]\nname = "sso"\nissuer = "https://sso.example.com/realms/company"\nclient_id = "regwarden"\n'
CI = '[[oidc]]\nname = "ci"\nissuer = "https://gitlab.example.com"\naudience = "https://regwarden.example.com"\n'


@pytest.fixture
def load(tmp_path: Path):
    def load(text: str):
        file = tmp_path / "regwarden.toml"
        file.write_text(text)
        return load_settings({}, file=file).settings

    return load


def test_providers_for_people_and_for_jobs_are_taken(load):
    rule = '[[role]]\nrole = "viewer"\nprovider = "ci"\nclaims = ["project_path=glob:team/**", "ref_protected=true"]\n'
    settings = load(f"{SERVER}{SSO}{CI}{rule}")
    assert [one.name for one in settings.oidc] == ["sso", "ci"]
    assert settings.role[0].provider == "ci"


def test_an_issuer_on_this_machine_may_have_no_tls(load):
    assert load(SERVER + SSO.replace("https://sso.example.com", "http://127.0.0.1:8080"))


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        (SERVER + SSO.replace('"sso"', '"S S O"'), "oidc.S S O.name", "cannot be a provider's name"),
        (SERVER + SSO.replace('"sso"', '"ldap"'), "oidc.ldap.name", "cannot be a provider's name"),
        (SERVER + SSO.replace('"sso"', '"a/b"'), "oidc.a/b.name", "cannot be a provider's name"),
        (SERVER + SSO + CI.replace('"ci"', '"sso"'), "oidc.sso.name", "two providers are called sso"),
        (SERVER + SSO.replace("https://sso", "http://sso"), "oidc.sso.issuer", "has no TLS"),
        (SERVER + SSO.replace("https://sso", "ldap://sso"), "oidc.sso.issuer", "is not an issuer"),
        (SERVER + SSO.replace("company", "company?x=1"), "oidc.sso.issuer", "is not an issuer"),
        (SERVER + SSO.replace("https://sso", "https://me@sso"), "oidc.sso.issuer", "is not an issuer"),
        (SERVER + SSO.replace("company", "c" * 300), "oidc.sso.issuer", "is not an issuer"),
        (SERVER + SSO.replace("https://sso.example.com", "https://[x"), "oidc.sso.issuer", "is not an issuer"),
        (SSO, "oidc.sso.client_id", "it is not known where to"),
        (CI.replace("audience", "client_secret_file"), "oidc.ci.client_id", "nobody can sign in"),
        (f'{CI}client_secret_file = "x"\n', "oidc.ci.client_id", "a client secret but no client"),
        (f'{SERVER}{SSO}audience = "regwarden"\n', "oidc.sso.audience", "also a client of people"),
        (CI + CI.replace('"ci"', '"two"'), "oidc.two.audience", "the same issuer and audience"),
        (f"{CI}algorithms = []\n", "oidc.ci.algorithms", "no signature"),
        (f'{CI}algorithms = ["none"]\n', "oidc.ci.algorithms", "'none' is not a signature"),
        (f'{CI}algorithms = ["RS256", "HS256"]\n', "oidc.ci.algorithms", "'HS256' is not a signature"),
        (f'{CI}scopes = ["a b"]\n', "oidc.ci.scopes", "is not a scope"),
        (f'{CI}[[role]]\nrole = "boss"\neveryone = true\n', "role.1.role", "boss"),
        (f'{CI}[[role]]\nrole = "viewer"\n', "role.1.role", "no condition"),
        (f'{CI}[[role]]\nrole = "viewer"\nprovider = "ci"\n', "role.1.role", "no condition"),
        ('[[role]]\nrole = "viewer"\neveryone = true\nusers = ["a"]\n', "role.1.role", "other conditions"),
        ('[[role]]\nrole = "viewer"\ngroups = ["re:("]\n', "role.1.role", "viewer"),
        ('[[role]]\nrole = "viewer"\nclaims = ["x"]\n', "role.1.role", "is not a claim"),
        (f'{CI}[[role]]\nrole = "viewer"\neveryone = true\nprovider = "cj"\n', "role.1.provider", "called 'cj'"),
    ],
)
def test_what_cannot_work_is_refused_with_its_place(load, text, key, words):
    with pytest.raises(InputError) as caught:
        load(text)
    assert f"{key}: " in caught.value.message
    assert words in caught.value.message
    assert caught.value.hint


def test_a_role_for_everyone_says_at_which_provider_where_jobs_come_in(load):
    rule = '[[role]]\nrole = "viewer"\neveryone = true\n'
    assert load(SERVER + SSO + rule)
    assert load(SERVER + SSO + CI + rule + 'provider = "sso"\n')
    with pytest.raises(InputError) as raised:
        load(SERVER + SSO + CI + rule)
    assert "role.1" in raised.value.message
    assert "every CI job for which ci answers" in raised.value.message


def test_every_algorithm_that_can_be_configured_has_a_key_and_no_other():
    assert set(ALGORITHMS) == set(_KEY_OF)
