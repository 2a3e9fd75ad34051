"""Settings: where they come from, which wins, and how a mistake is reported."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regwarden.errors import InputError
from regwarden.flows.finish_records import place_of
from regwarden.settings import RegistrySettings, Secret, parse_registry_url
from regwarden.settings_document import default_document, display_database, reference_page
from regwarden.settings_environment import environment_name
from regwarden.settings_sources import load_settings, read_secret

ONE = '[[registry]]\nname = "prod"\nurl = "https://registry.example.com"\n'


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str) -> Path:
        file = tmp_path / "regwarden.toml"
        file.write_text(text)
        return file

    return write


def test_without_a_file_everything_has_its_default() -> None:
    loaded = load_settings({"REGWARDEN_CONFIG": ""}, file=None)
    assert loaded.settings.defaults.concurrency == 16
    assert loaded.origin("defaults.concurrency") == "default"


def test_the_environment_overrules_the_file_and_the_command_line_both(write) -> None:
    file = write('database = "sqlite:///a"\n[defaults]\nretries = 1\nconcurrency = 2\n')
    environ = {"REGWARDEN_DATABASE": "sqlite:///b", "REGWARDEN_DEFAULTS_RETRIES": "3"}
    loaded = load_settings(environ, file=file)
    assert (loaded.settings.database, loaded.settings.defaults.retries) == ("sqlite:///b", 3)
    assert loaded.settings.defaults.concurrency == 2
    assert load_settings(environ, file=file, database=":memory:").settings.database == ":memory:"


def test_a_file_can_be_named_in_the_environment(write) -> None:
    assert load_settings({"REGWARDEN_CONFIG": str(write(ONE))}).settings.registry[0].name == "prod"


def test_the_users_file_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "regwarden"
    place.mkdir()
    (place / "regwarden.toml").write_text(ONE)
    monkeypatch.setattr("platformdirs.user_config_path", lambda *_, **__: place)
    assert load_settings({}).file == place / "regwarden.toml"


def test_a_registrys_settings_can_come_from_the_environment(write) -> None:
    file = write('[[registry]]\nname = "my-reg.1"\nurl = "https://a.example"\n')
    environ = {
        "REGWARDEN_REGISTRY_MY_REG_1_USERNAME": "reader",
        "REGWARDEN_REGISTRY_MY_REG_1_PASSWORD": "s3cret",
        "REGWARDEN_REGISTRY_MY_REG_1_TOKEN_HOSTS": "auth.example, auth2.example",
        "REGWARDEN_REGISTRY_MY_REG_1_DIGEST_AUTH": "true",
    }
    loaded = load_settings(environ, file=file)
    (registry,) = loaded.settings.registry
    assert (registry.username, registry.digest_auth) == ("reader", True)
    assert registry.token_hosts == ("auth.example", "auth2.example")
    secret = read_secret(registry, loaded, environ)
    assert secret is not None
    assert secret.reveal() == "s3cret"


def test_a_variable_that_means_nothing_is_a_warning() -> None:
    loaded = load_settings({"REGWARDEN_SHARED": "/srv", "REGWARDEN_REGISTRY_X_URL": "https://x.example"})
    assert len(loaded.warnings) == 2
    assert all("ignored" in warning for warning in loaded.warnings)


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("REGWARDEN_DEFAULT_RETRIES", "REGWARDEN_DEFAULTS_RETRIES"),
        ("REGWARDEN_DEFAULTS_RETIRES", "REGWARDEN_DEFAULTS_RETRIES"),
        ("REGWARDEN_DATABASE_URL", "REGWARDEN_DATABASE"),
        ("REGWARDEN_REGISTRY_PROD_PASWORD", "REGWARDEN_REGISTRY_PROD_PASSWORD"),
    ],
)
def test_a_variable_that_is_nearly_a_setting_is_refused_with_the_nearest(write, variable: str, meant: str) -> None:
    with pytest.raises(InputError, match=f"{variable} is not a setting") as caught:
        load_settings({variable: "1"}, file=write(ONE))
    assert caught.value.hint == f"Did you mean {meant}?"


def test_a_variable_of_a_registry_whose_name_begins_like_another_is_understood(write) -> None:
    longer = ONE.replace('"prod"', '"prod-eu"').replace("registry.example", "eu.example")
    loaded = load_settings({"REGWARDEN_REGISTRY_PROD_EU_USERNAME": "reader"}, file=write(ONE + longer))
    assert [registry.username for registry in loaded.settings.registry] == ["", "reader"]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("databaze = 'x'", 1, "there is no setting databaze"),
        ("[defaults]\nretires = 3", 2, "there is no setting defaults.retires"),
        (ONE + "concurrency = '5'", 4, "registry.concurrency must be a whole number, not text in quotes"),
        ("[defaults]\n\nretries = 99", 3, "defaults.retries must be a whole number of at most 20"),
        ("version = 2", 1, "version must be a whole number of at most 1"),
        (ONE + "token_hosts = 'x'", 4, "registry.token_hosts must be a list"),
        (ONE + "password = 'x'", 4, "there is no setting registry.password"),
        (ONE + "kind = 'nexus'", 3, "is not a kind of registry"),
        (ONE + "password_file = 'x'", 3, "no username"),
        (ONE + ONE.replace("registry.example", "other.example"), 6, "two registries have the name prod"),
        (
            ONE + '[[registry]]\nname = "x"\nurl = "HTTPS://Registry.example.com/v2/"',
            6,
            "two registries have the address",
        ),
        ('[[registry]]\nname = "x"\nurl = "https://u:p@x.example"', 3, "must not contain a user name or password"),
        ('[[registry]]\nname = "x y"\nurl = "https://x.example"', 3, "cannot be a registry's name"),
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
    "text",
    ["x =", "defaults = 3", "registry = 3", "registry = [1]", "[registry]\nname = 'x'", '[[registry]]\nname = "x"'],
)
def test_a_broken_file_is_one_sentence(write, text: str) -> None:
    with pytest.raises(InputError) as caught:
        load_settings({}, file=write(text))
    assert "\n" not in caught.value.message


def test_a_wrong_type_in_the_environment_names_the_variable() -> None:
    with pytest.raises(InputError, match="REGWARDEN_DEFAULTS_RETRIES must be a whole number, not 'many'"):
        load_settings({"REGWARDEN_DEFAULTS_RETRIES": "many"})


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_settings({}, file=tmp_path / "none.toml")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="UTF-8"):
        load_settings({}, file=tmp_path / "binary")


def test_the_password_is_the_first_line_of_its_file(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(b"pa ss \r\nsecond")
    registry = RegistrySettings(name="x", url="https://x.example", username="u", password_file=str(file))
    secret = read_secret(registry, load_settings({}), {})
    assert secret is not None
    assert secret.reveal() == "pa ss "
    file.write_text("\n")
    with pytest.raises(InputError, match="is empty"):
        read_secret(registry, load_settings({}), {})


def test_a_password_variable_that_is_not_set_is_said() -> None:
    registry = RegistrySettings(name="x", url="https://x.example", username="u", password_env="X_PASSWORD")
    with pytest.raises(InputError, match="X_PASSWORD, which is not set"):
        read_secret(registry, load_settings({}), {})


def test_a_secret_shows_itself_only_when_asked() -> None:
    assert "hunter2" not in f"{Secret('hunter2')!r} {Secret('hunter2')}"


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("registry.example.com", "https://registry.example.com"),
        ("Registry.Example.com:5000/", "https://registry.example.com:5000"),
        ("http://localhost:5000/v2/", "http://localhost:5000"),
        ("https://host.example/prefix/v2", "https://host.example/prefix"),
        ("[::1]:5000", "https://[::1]:5000"),
    ],
)
def test_an_address_is_normalised(text: str, url: str) -> None:
    assert parse_registry_url(text) == url


@pytest.mark.parametrize("text", ["", "://", "ftp://x", "https://", "https://a b", "https://x:99999", "https://x?q=1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_registry_url(text)


@given(st.text(max_size=60))
def test_parsing_an_address_raises_nothing_else(text: str) -> None:
    try:
        parsed = parse_registry_url(text)
    except InputError:
        return
    assert parse_registry_url(parsed) == parsed


@given(st.text(max_size=80))
def test_any_file_gives_settings_or_one_input_error(text: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "x.toml"
        file.write_text(text, encoding="utf-8", errors="surrogatepass")
        try:
            load_settings({}, file=file)
        except InputError as error:
            assert error.message


def test_the_default_file_says_the_defaults(write) -> None:
    loaded = load_settings({}, file=write(default_document()))
    assert loaded.settings == load_settings({"REGWARDEN_CONFIG": ""}).settings


def test_every_setting_of_the_default_file_is_accepted_when_uncommented(write) -> None:
    lines = default_document().splitlines()
    assignments = [line.removeprefix("# ") for line in lines if " = " in line or line.startswith(("# [[", "["))]
    text = "\n".join(
        line for line in assignments if not line.startswith(("password_env", "user_dn", "Conf", "A var", "REGW"))
    )
    (registry,) = load_settings({}, file=write(text)).settings.registry
    assert registry.name == "production"
    assert registry.token_hosts == ("auth.example.com",)


def test_the_manual_names_every_setting_and_variable() -> None:
    page = reference_page()
    for key in (*RegistrySettings.__struct_fields__, "retries", "page_size", "database", "REQUESTS_CA_BUNDLE"):
        assert f"`{key}`" in page


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:pw@db:5432/regwarden", "postgresql://me:(hidden)@db:5432/regwarden"),
        ("postgresql://db/regwarden", "postgresql://db/regwarden"),
        ("host=db password=pw dbname=regwarden", "host=db password=(hidden) dbname=regwarden"),
        ("host=db password='p\\' w' user=me", "host=db password=(hidden) user=me"),
        ("postgresql://db/regwarden?user=me&password=pw", "postgresql://db/regwarden?user=me&password=(hidden)"),
        ("postgresql://me:p/w@db/regwarden", "postgresql://me:(hidden)@db/regwarden"),
        ("sqlite:///x.sqlite3", "sqlite:///x.sqlite3"),
    ],
)
def test_a_database_is_shown_without_its_password(url: str, shown: str) -> None:
    assert display_database(url) == shown


def test_environment_names_are_capitals_and_underscores() -> None:
    assert environment_name("my-reg.1:5000") == "MY_REG_1_5000"


def test_a_registry_may_say_where_its_storage_is_and_how_its_garbage_is_collected(write) -> None:
    more = 'storage_path = "/var/lib/registry"\ncollect_command = ["collect", "--all"]\ncollect_timeout = "90m"\n'
    registry = load_settings({}, file=write(ONE + more)).settings.registry[0]
    assert (registry.storage_path, registry.collect_command) == ("/var/lib/registry", ("collect", "--all"))
    place = place_of(registry)
    assert (place.storage_path, place.command, place.timeout_seconds) == (
        Path("/var/lib/registry"),
        ("collect", "--all"),
        5400.0,
    )
    nothing = place_of(load_settings({}, file=write(ONE)).settings.registry[0])
    assert (nothing.storage_path, nothing.command) == (None, ())


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('storage_path = "registry"', "absolute"),
        ('collect_command = [""]', "names no program"),
        ('collect_timeout = "soon"', "not a duration"),
    ],
)
def test_a_collection_that_cannot_be_is_refused_with_its_place(write, line, said) -> None:
    with pytest.raises(InputError, match=said) as refused:
        load_settings({}, file=write(f"{ONE}{line}\n"))
    assert "regwarden.toml" in refused.value.message
