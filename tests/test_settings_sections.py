"""The tables of the service: what they accept, where a mistake is reported, what the environment overrules."""

from __future__ import annotations

from pathlib import Path

import pytest

from regwarden.errors import InputError
from regwarden.settings_document import default_document, effective_rows, reference_page
from regwarden.settings_sections import ListenAddress, parse_listen_address
from regwarden.settings_shape import own_fields, sections
from regwarden.settings_sources import load_settings

PROD = '[[registry]]\nname = "prod"\nurl = "https://registry.example.com"\n'
DEV = '[[registry]]\nname = "dev"\nurl = "https://dev.example.com:5000"\n'


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str) -> Path:
        file = tmp_path / "regwarden.toml"
        file.write_text(text)
        return file

    return write


def test_every_table_is_known_with_its_place_and_whether_it_repeats() -> None:
    assert [section.header for section in sections()] == [
        "[defaults]",
        "[server]",
        "[events]",
        "[pulls]",
        "[cleanup]",
        "[auth]",
        "[ldap]",
        "[allow]",
        "[[pull_rule]]",
        "[[oidc]]",
        "[[role]]",
        "[compat.regstat]",
        "[compat.imagelist]",
        "[compat.gitlab_registry_usage_rest]",
        "[[registry]]",
    ]


def test_every_setting_stands_in_the_default_file_and_in_the_manual() -> None:
    document, page = default_document(), reference_page()
    for section in sections():
        assert section.header in document
        assert f"## {section.header}" in page
        for key in own_fields(section.model):
            assert f"{key} = " in document
            assert f"`{key}`" in page


def test_the_tables_of_the_service_are_read_and_shown_with_their_place(write) -> None:
    text = """\
[server]
listen = ["0.0.0.0:8350", "unix:/run/regwarden.sock"]
[events]
keep_events = "30d"
[pulls]
use = ["workload"]
[[pull_rule]]
pull_class = "ci"
user_agent = "glob:buildkit/*"
[[pull_rule]]
pull_class = "scanner"
network = ["10.1.0.0/16", "fd00::/8"]
[compat.regstat]
listen = "0.0.0.0:3333"
unauthenticated = true
registry = "prod"
"""
    file = write(text + PROD)
    loaded = load_settings({}, file=file)
    settings = loaded.settings
    assert settings.server.listen == ("0.0.0.0:8350", "unix:/run/regwarden.sock")
    assert (settings.events.keep_events, settings.events.keep_bodies) == ("30d", "24h")
    assert [rule.pull_class for rule in settings.pull_rule] == ["ci", "scanner"]
    assert settings.compat.regstat.unauthenticated
    shown = {row.setting: (row.value, row.source) for row in effective_rows(loaded)}
    assert shown["server.public_url"] == ("", "default")
    assert shown["events.keep_events"] == ("30d", f"file {file}:4")
    assert shown["pull_rule.1.user_agent"] == ("glob:buildkit/*", f"file {file}:9")
    assert shown["pull_rule.2.pull_class"] == ("scanner", f"file {file}:11")
    assert shown["compat.regstat.registry"] == ("prod", f"file {file}:16")


def test_the_environment_overrules_every_table(write) -> None:
    environ = {
        "REGWARDEN_SERVER_LISTEN": "127.0.0.1:1, [::1]:2",
        "REGWARDEN_EVENTS_KEEP_BODIES": "1h",
        "REGWARDEN_PULLS_USE": "ci",
        "REGWARDEN_COMPAT_REGSTAT_LISTEN": "0.0.0.0:3333",
        "REGWARDEN_COMPAT_REGSTAT_UNAUTHENTICATED": "true",
        "REGWARDEN_REGISTRY_PROD_ALIASES": "a.example,b.example:5000",
        "REGWARDEN_REGISTRY_PROD_HOOK_SECRET_FILES": "/run/one,/run/two",
        "REGWARDEN_REGISTRY_PROD_CRAWL_EVERY": "30m",
    }
    loaded = load_settings(environ, file=write('[events]\nkeep_bodies = "2h"\n' + PROD))
    settings = loaded.settings
    assert settings.server.listen == ("127.0.0.1:1", "[::1]:2")
    assert (settings.events.keep_bodies, settings.pulls.use) == ("1h", ("ci",))
    assert settings.compat.regstat.unauthenticated
    assert settings.registry[0].aliases == ("a.example", "b.example:5000")
    assert settings.registry[0].hook_secret_files == ("/run/one", "/run/two")
    assert loaded.origin("server.listen") == "environment REGWARDEN_SERVER_LISTEN"
    assert loaded.origin("compat.regstat.listen") == "environment REGWARDEN_COMPAT_REGSTAT_LISTEN"
    assert loaded.warnings == ()


@pytest.mark.parametrize(
    "variable",
    [
        "REGWARDEN_SERVICE_HOST",
        "REGWARDEN_SERVICE_PORT",
        "REGWARDEN_PORT_8350_TCP_ADDR",
        "REGWARDEN_SERVER_PORT",
        "REGWARDEN_SERVER_SERVICE_HOST",
    ],
)
def test_what_kubernetes_sets_for_a_service_of_our_name_is_no_mistake(variable: str) -> None:
    (warning,) = load_settings({variable: "x", "REGWARDEN_CONFIG": ""}).warnings
    assert "ignored" in warning


def test_a_slip_in_the_name_of_a_variable_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        load_settings({"REGWARDEN_COMPAT_REGSTAT_LISTENS": "x"})
    assert caught.value.hint == "Did you mean REGWARDEN_COMPAT_REGSTAT_LISTEN?"


def test_a_wrong_value_in_the_environment_names_the_variable() -> None:
    with pytest.raises(InputError, match=r"environment REGWARDEN_SERVER_LISTEN: server.listen: 'here' is not an addr"):
        load_settings({"REGWARDEN_SERVER_LISTEN": "here"})
    with pytest.raises(InputError, match="REGWARDEN_COMPAT_REGSTAT_UNAUTHENTICATED must be true or false"):
        load_settings({"REGWARDEN_COMPAT_REGSTAT_UNAUTHENTICATED": "perhaps"})


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("[server]\nlistne = []", 2, "there is no setting server.listne"),
        ("[server]\nlisten = '127.0.0.1:8350'", 2, "server.listen must be a list in brackets"),
        ("[server]\nlisten = ['here']", 2, "'here' is not an address to listen on"),
        ("[server]\nlisten = ['localhost:70000']", 2, "is not an address to listen on"),
        ("[server]\nlisten = ['a:1', 'b:1', 'a:1']", 2, "a:1 is listed twice"),
        ("[server]\npublic_url = 'regwarden'", 2, "is not an address"),
        ("[server]\ntls_key = '/x'", 2, "a key but no certificate"),
        ("[events]\n\nkeep_events = 'long'", 3, "'long' is not a duration"),
        ("[events]\nkeep_pulls = 3", 2, "events.keep_pulls must be text in quotes"),
        ("[pulls]\nuse = ['robots']", 2, "'robots' is not a class of pulls"),
        (
            "[[pull_rule]]\npull_class = 'ci'\nactor = 'a'\n[[pull_rule]]\npull_class = 'x'",
            5,
            "'x' is not a class of pulls",
        ),
        ("[[pull_rule]]\npull_class = 'ci'\n[[pull_rule]]\npull_class = 3", 4, "pull_rule.pull_class must be text"),
        ("[[pull_rule]]\npull_class = 'ci'", 2, "it asks for nothing"),
        ("[[pull_rule]]\npull_class = 'ci'\nmethod = 'PUT'", 3, "'PUT' is not a method"),
        ("[[pull_rule]]\npull_class = 'ci'\nnetwork = ['10.1']", 3, "'10.1' is not a network"),
        ("[[pull_rule]]\npull_class = 'ci'\nactor = 're:('", 3, "pull_rule.1.actor"),
        ("[compat.regstat]\nunauthenticated = true", 2, "no listener"),
        ("[compat.regstat]\nlisten = '127.0.0.1:8350'", 2, "is listed twice"),
        ("[compat.regstat]\nregistry = 'prod'", 2, "there is no registry called 'prod'"),
        ("[compat.regstat]\nport = 1", 2, "there is no setting compat.regstat.port"),
        (PROD + "aliases = ['https://a.example']", 3, "is not a host"),
        (PROD + "aliases = ['a.example/x']", 3, "is not a host"),
        (PROD + "aliases = ['a b']", 3, "is not a host"),
        (PROD + "aliases = ['dev.example.com:5000']\n" + DEV, 7, "means the registries prod and dev"),
        (PROD + "aliases = ['x']\n" + DEV + "aliases = ['X:443']", 7, "x means the registries dev and prod"),
        ("[defaults]\ncrawl_every = 'often'", 2, "defaults.crawl_every"),
        (PROD + "crawl_every = '61 * * * *'", 4, "registry.prod.crawl_every"),
        (PROD + "hook_secret_files = ['a', 'b', 'c']", 3, "has 3 hook_secret_files"),
    ],
)
def test_a_mistake_is_reported_with_its_line(write, text: str, line: int, words: str) -> None:
    file = write(text)
    with pytest.raises(InputError) as caught:
        load_settings({}, file=file)
    assert f"{file}:{line}:" in caught.value.message
    assert words in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("server = 3", "server must be a table"),
        ("[[server]]", "server must be a table"),
        ("compat = 3", "compat must be a table"),
        ("[compat]\nregstat = 3", "compat.regstat must be a table"),
        ("[compat.docker]", "there is no setting compat.docker"),
        ("[pull_rule]\npull_class = 'ci'", "pull_rule must be a list of tables"),
        ("[[pull_rule]]\nmethod = 'GET'", "pull rule number 1 has no pull_class"),
    ],
)
def test_a_table_of_the_wrong_shape_is_one_sentence(write, text: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        load_settings({}, file=write(text))
    assert words in caught.value.message
    assert "\n" not in caught.value.message


def test_aliases_are_compared_as_hosts_are(write) -> None:
    (registry,) = load_settings({}, file=write(PROD + "aliases = ['Old.Example:443', '[::1]:5000']")).settings.registry
    assert registry.aliases == ("old.example", "[::1]:5000")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8350", ListenAddress("127.0.0.1", 8350)),
        ("localhost:0", ListenAddress("localhost", 0)),
        ("[::1]:8350", ListenAddress("::1", 8350)),
        ("unix:/run/regwarden/hooks.sock", ListenAddress(path="/run/regwarden/hooks.sock")),
    ],
)
def test_an_address_to_listen_on_reads_back_as_it_was_written(text: str, address: ListenAddress) -> None:
    assert parse_listen_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text", ["", "8350", ":8350", "host", "host:", "host:99999", "unix:", "::1:8350", "http://a:1"]
)
def test_what_is_no_address_to_listen_on_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_listen_address(text)
