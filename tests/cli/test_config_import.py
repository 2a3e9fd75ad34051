"""regstat's flags become a configuration that loads and does the same."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from regwarden.core.regstat_flags import parse_equivalents, parse_regstat_flags, split_command_line
from regwarden.errors import InputError
from regwarden.settings_sources import load_settings

EQUIVALENTS = {
    "registry.example.com": ["registry.internal:5000", "registry.example.com:443"],
    "other:5000": ["10.0.0.7"],
}


@pytest.fixture
def equivalents(tmp_path: Path) -> Path:
    file = tmp_path / "equiv-registries.json"
    file.write_text(json.dumps(EQUIVALENTS))
    return file


def test_all_flags_are_translated_and_the_result_loads(run, tmp_path, equivalents):
    written = tmp_path / "regwarden.toml"
    flags = [
        "-port",
        "4444",
        "--pg-conn-str",
        "host=db user=u password=geheim dbname=d",
        "-docker-config=/c/config.json",
    ]
    made = run(
        "config", "import", "regstat", "--output-file", str(written), "--", *flags, f"--equiv-registries={equivalents}"
    )
    assert made.exit_code == 0, made.stderr
    assert made.stdout == ""
    assert "geheim" not in made.stderr + written.read_text()
    assert "password was left out" in made.stderr
    checked = run("config", "check", str(written))
    assert checked.exit_code == 0, checked.stderr
    settings = load_settings({}, file=written).settings
    assert settings.database == "host=db user=u dbname=d"
    assert (settings.compat.regstat.listen, settings.compat.regstat.unauthenticated) == ("0.0.0.0:4444", True)
    assert [(one.name, one.url, one.aliases, one.docker_config) for one in settings.registry] == [
        ("registry.example.com", "https://registry.example.com", ("registry.internal:5000",), "/c/config.json"),
        ("other:5000", "https://other:5000", ("10.0.0.7",), "/c/config.json"),
    ]


def test_without_flags_regstats_defaults_are_written(run):
    made = run("config", "import", "regstat")
    assert made.exit_code == 0, made.stderr
    document = tomllib.loads(made.stdout)
    assert document["database"] == "host=localhost port=5432 user=postgres sslmode=disable"
    assert document["compat"] == {"regstat": {"listen": "0.0.0.0:3333", "unauthenticated": True}}
    assert "registry" not in document
    assert "everybody who reaches this port" in made.stdout
    assert "# [[registry]]" in made.stdout


@pytest.mark.parametrize(
    "text",
    [
        'regstat -port 4444 \\\n  -pg-conn-str "host=db user=u"\n',
        'ENTRYPOINT ["/regstat", "-port", "4444", "-pg-conn-str", "\\"host=db user=u\\""]',
        "ExecStart=/usr/bin/regstat --port=4444 --pg-conn-str='host=db user=u'",
        "command: -port 4444 -pg-conn-str 'host=db user=u'  # as always",
    ],
)
def test_a_command_line_is_read_from_a_file(run, tmp_path, text):
    file = tmp_path / "start"
    file.write_text(text)
    made = run("config", "import", "regstat", str(file))
    assert made.exit_code == 0, made.stderr
    document = tomllib.loads(made.stdout)
    assert (document["database"], document["compat"]["regstat"]["listen"]) == ("host=db user=u", "0.0.0.0:4444")


def test_an_existing_file_is_not_overwritten(run, tmp_path):
    file = tmp_path / "regwarden.toml"
    file.write_text("version = 1\n")
    made = run("config", "import", "regstat", "--output-file", str(file))
    assert (made.exit_code, file.read_text()) == (2, "version = 1\n")
    assert "never overwritten" in made.stderr


def test_a_name_in_two_lists_is_an_error(run, tmp_path):
    file = tmp_path / "equivalents.json"
    file.write_text('{"a": ["x:443"], "b": ["X"]}')
    made = run("config", "import", "regstat", "--", "-equiv-registries", str(file))
    assert made.exit_code == 2
    assert "error[ambiguous-alias]: X is equivalent to a and to b" in made.stderr


@pytest.mark.parametrize("text", ['{"a": ["b"], "b": []}', '{"a": ["c"], "b": ["c"]}'])
def test_names_that_are_not_clear_are_refused(text):
    with pytest.raises(InputError) as caught:
        parse_equivalents(text)
    assert caught.value.code == "ambiguous-alias"


@pytest.mark.parametrize("text", ["[]", "{", '{"a": "b"}', '{"a": [1]}', "null"])
def test_a_file_that_is_none_of_equivalents_is_refused(text):
    with pytest.raises(InputError, match="equivalent registries"):
        parse_equivalents(text)


@pytest.mark.parametrize(
    "words", [["-verbose"], ["-port"], ["3333"], ["-port", "x"], ["-port=0"], ["---port", "1"], ["-port", "70000"]]
)
def test_what_is_no_flag_of_regstat_is_refused(words):
    with pytest.raises(InputError):
        parse_regstat_flags(words)


@pytest.mark.parametrize("text", ["regstat -port '3333", "[1, 2]", '["-port"'])
def test_command_lines_that_cannot_be_understood_are_refused(text):
    with pytest.raises(InputError):
        split_command_line(text)


def test_a_missing_file_is_named(run):
    made = run("config", "import", "regstat", "nowhere")
    assert made.exit_code == 2
    assert "cannot read nowhere: no such file" in made.stderr
