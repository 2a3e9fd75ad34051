"""Settings of [ldap] that cannot work, or would send passwords in the open, are refused with their place."""

from __future__ import annotations

from pathlib import Path

import pytest

from regwarden.errors import InputError
from regwarden.settings_sources import load_settings

GOOD = 'servers = ["ldaps://ldap.example.com"]\nuser_base = "ou=people,dc=example,dc=com"\n'


def load(tmp_path: Path, text: str) -> None:
    file = tmp_path / "regwarden.toml"
    file.write_text(f"[ldap]\n{text}")
    load_settings({}, file=file)


@pytest.mark.parametrize(
    "text",
    [
        "",
        GOOD,
        GOOD + 'user_filter = "(&(a=b)(!(c=d)))"\nbind_dn = "cn=a,dc=b"\nbind_password_file = "/f"\n',
        GOOD + 'member_of_attribute = ""\nattributes = ["gidNumber", "1.2.840.113556.1.4.8"]\n',
        'servers = ["ldap://[::1]:389"]\ninsecure = true\nuser_base = "dc=x"\n',
        'servers = ["ldap://127.0.0.1", "ldaps://directory"]\ninsecure = true\nuser_base = "dc=x"\n',
        'servers = ["ldap://ldap.example.com:3389"]\nstart_tls = true\nuser_dn = ["uid={username},dc=x"]\n',
    ],
)
def test_settings_that_can_work(tmp_path: Path, text: str) -> None:
    load(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ('user_base = "dc=x"\n', "user_base", "no directory"),
        ('servers = ["ldap.example.com"]\nuser_base = "dc=x"\n', "servers", "not the address"),
        ('servers = ["https://ldap.example.com"]\nuser_base = "dc=x"\n', "servers", "not the address"),
        ('servers = ["ldaps://u:p@ldap.example.com"]\nuser_base = "dc=x"\n', "servers", "not the address"),
        ('servers = ["ldaps://ldap.example.com/dc=x"]\nuser_base = "dc=x"\n', "servers", "not the address"),
        ('servers = ["ldaps://ldap.example.com:99999"]\nuser_base = "dc=x"\n', "servers", "not the address"),
        ('servers = ["ldaps://a", "ldaps://a"]\nuser_base = "dc=x"\n', "servers", "twice"),
        ('servers = ["ldap://ldap.example.com"]\nuser_base = "dc=x"\n', "servers", "has no TLS"),
        ('servers = ["ldap://ldap.example.com"]\ninsecure = true\nuser_base = "dc=x"\n', "insecure", "not on this"),
        (
            'servers = ["ldap://127.0.0.1.evil.example"]\ninsecure = true\nuser_base = "dc=x"\n',
            "insecure",
            "not on this",
        ),
        (
            'servers = ["ldap://127.0.0.1"]\ninsecure = true\nstart_tls = true\nuser_base = "dc=x"\n',
            "insecure",
            "exclude",
        ),
        (GOOD + "start_tls = true\n", "start_tls", "from the start"),
        ('servers = ["ldaps://a"]\n', "user_base", "where users are"),
        (GOOD + 'user_dn = ["uid={username},dc=x"]\n', "user_base", "exclude"),
        ('servers = ["ldaps://a"]\nuser_dn = ["uid=alice,dc=x"]\n', "user_dn", "{username}"),
        ('servers = ["ldaps://a"]\nuser_dn = ["{username}@example.com"]\n', "user_dn", "not a DN"),
        ('servers = ["ldaps://a"]\nuser_base = "people"\n', "user_base", "not a DN"),
        (GOOD + 'group_base = "groups"\n', "group_base", "not a DN"),
        (GOOD + 'bind_dn = "cn=a"\n', "bind_dn", "no password"),
        (GOOD + 'bind_password_file = "/f"\n', "bind_password_file", "no account"),
        (GOOD + 'user_filter = "objectClass=person"\n', "user_filter", "parentheses"),
        (GOOD + 'user_filter = "(a=b)(c=d)"\n', "user_filter", "parentheses"),
        (GOOD + 'user_filter = "((a=b)"\n', "user_filter", "parentheses"),
        (GOOD + 'user_filter = "(a=b))"\n', "user_filter", "parentheses"),
        (GOOD + 'username_attribute = "uid)(x=*"\n', "username_attribute", "not an attribute"),
        (GOOD + 'username_attribute = ""\n', "username_attribute", "not an attribute"),
        (GOOD + 'attributes = ["a b"]\n', "attributes", "not an attribute"),
        (GOOD + "group_depth = 6\n", "group_depth", "at most 5"),
    ],
)
def test_settings_that_cannot_work(tmp_path: Path, text: str, key: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        load(tmp_path, text)
    assert f"ldap.{key}" in caught.value.message
    assert words in caught.value.message + caught.value.hint
    assert caught.value.exit_status == 2
