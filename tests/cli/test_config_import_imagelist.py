"""imagelist's flags and environment become a configuration that loads and does the same."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from regwarden.core.imagelist_flags import parse_imagelist_flags, split_lines
from regwarden.errors import InputError
from regwarden.settings_sources import load_settings

LINES = {
    "shell": "LISTEN=:9000 image-admission \\\n  --tokens-file '/etc/my tokens.yaml' --dbhost=db -dbuser u\n",
    "entrypoint": (
        'FROM scratch\nENV LISTEN=:9000 DBHOST=db\nENTRYPOINT ["/image-admission", "--tokens-file", '
        '"/etc/my tokens.yaml"]\nCMD ["--dbuser", "u"]\n'
    ),
    "unit": (
        "[Service]\n# as always\nEnvironment=LISTEN=:9000 OTHER=x\n"
        "ExecStart=/usr/bin/image-admission --tokens-file='/etc/my tokens.yaml' --dbuser u --dbhost db"
    ),
    "environment": "LISTEN=:9000\nexport TOKENS_FILE='/etc/my tokens.yaml'\n- DBHOST=db\n\nDBUSER=u # who\n",
}


def test_all_flags_are_translated_and_the_result_loads(run, tmp_path):
    written = tmp_path / "regwarden.toml"
    connection = ["--dbhost", "db", "--dbport=5433", "--dbuser", "o'u", "--dbpassword", "ge heim", "--dbname", "d"]
    files = ["-tokens-file", "/etc/tokens.yaml", "--certfile=/c.pem", "--keyfile", "/k.pem"]
    flags = ["--debug", "--listen", "127.0.0.1:9000", *connection, "--dbsslmode", "require", *files]
    made = run("config", "import", "imagelist", "--output-file", str(written), "--", *flags)
    assert made.exit_code == 0, made.stderr
    assert made.stdout == ""
    assert "heim" not in made.stderr + written.read_text()
    assert "password was left out" in made.stderr
    assert "anybody can read the list" in made.stderr
    assert run("config", "check", str(written)).exit_code == 0
    settings = load_settings({}, file=written).settings
    assert settings.database == r"host=db port=5433 user=o\'u dbname=d sslmode=require"
    assert (settings.server.tls_certificate, settings.server.tls_key) == ("/c.pem", "/k.pem")
    imagelist = settings.compat.imagelist
    assert (imagelist.listen, imagelist.tokens_file) == ("127.0.0.1:9000", "/etc/tokens.yaml")
    assert (imagelist.unauthenticated_reads, imagelist.unauthenticated_writes) == (True, False)


def test_without_flags_imagelists_defaults_are_written(run, tmp_path):
    made = run("config", "import", "imagelist")
    assert made.exit_code == 0, made.stderr
    document = tomllib.loads(made.stdout)
    assert document["database"] == "host=localhost port=5432 user=postgres dbname=imagelist sslmode=disable"
    assert document["compat"]["imagelist"] == {
        "listen": "0.0.0.0:8000",
        "unauthenticated_reads": True,
        "unauthenticated_writes": True,
    }
    assert "server" not in document
    assert "anybody can read and write" in made.stderr
    file = tmp_path / "regwarden.toml"
    file.write_text(made.stdout)
    assert run("config", "check", str(file)).exit_code == 0


@pytest.mark.parametrize("form", LINES)
def test_a_command_line_or_an_environment_is_read_from_a_file(run, tmp_path, form):
    file = tmp_path / "start"
    file.write_text(LINES[form])
    made = run("config", "import", "imagelist", str(file))
    assert made.exit_code == 0, made.stderr
    document = tomllib.loads(made.stdout)
    assert document["database"] == "host=db port=5432 user=u dbname=imagelist sslmode=disable"
    assert document["compat"]["imagelist"] == {
        "listen": "0.0.0.0:9000",
        "unauthenticated_reads": True,
        "tokens_file": "/etc/my tokens.yaml",
    }


def test_flags_count_more_than_the_environment(run):
    made = run("config", "import", "imagelist", "--", "LISTEN=:1", "--listen", ":2", "--listen=:3")
    assert tomllib.loads(made.stdout)["compat"]["imagelist"]["listen"] == "0.0.0.0:3"


@pytest.mark.parametrize("flags", [["--certfile", "/c.pem"], ["--keyfile", "/k.pem"]])
def test_tls_needs_both_files(flags):
    found = parse_imagelist_flags([flags])
    assert (found.certificate, found.key) == ("", "")


def test_an_existing_file_is_not_overwritten(run, tmp_path):
    file = tmp_path / "regwarden.toml"
    file.write_text("version = 1\n")
    made = run("config", "import", "imagelist", "--output-file", str(file))
    assert (made.exit_code, file.read_text()) == (2, "version = 1\n")


@pytest.mark.parametrize(
    "words",
    [
        ["--verbose"],
        ["--listen"],
        ["--listen", "8000"],
        ["--listen", ":http"],
        ["--listen", ":0"],
        ["--dbport", "x"],
        ["--dbport=0"],
        ["---listen", ":1"],
        ["--debug", "true"],
        ["--dbhost", "db", "more"],
    ],
)
def test_what_is_no_flag_of_imagelist_is_refused(words):
    with pytest.raises(InputError):
        parse_imagelist_flags([words])


@pytest.mark.parametrize("text", ["image-admission --listen ':80", "[1, 2]", '["--listen"'])
def test_command_lines_that_cannot_be_understood_are_refused(text):
    with pytest.raises(InputError):
        list(split_lines(text))


def test_no_message_shows_a_password():
    with pytest.raises(InputError) as caught:
        parse_imagelist_flags([["--db-password=geheim"]])
    assert "geheim" not in caught.value.message
    assert "geheim" not in repr(parse_imagelist_flags([["--dbpassword=geheim"]]))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ('unauthenticated_writes = true\ntokens_file = "/t"\nenabled = true', "writing is open to anybody"),
        ("unauthenticated_reads = true", "not served anywhere"),
        ('tokens_file = "/t"', "not served anywhere"),
        ('listen = "8000"', "is not an address to listen on"),
        ('listen = "127.0.0.1:8350"', "is listed twice"),
    ],
)
def test_settings_that_cannot_work_are_refused_with_their_place(tmp_path: Path, setting: str, message: str):
    file = tmp_path / "regwarden.toml"
    file.write_text(f"[compat.imagelist]\n{setting}\n")
    with pytest.raises(InputError) as caught:
        load_settings({}, file=file)
    assert message in caught.value.message
    assert "compat.imagelist." in caught.value.message
