"""The command as a whole: help, start-up, configuration, and how every failure ends."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from regwarden import __version__
from regwarden.cli.failures import run_guarded
from regwarden.store.database import Access, open_database
from tests.sample_inventory import Run, isolated_environment, small_registry

COMMANDS = ("demo", "crawl", "usage", "repository", "tag", "manifest", "blob", "registry", "export", "config", "db")


def guarded(call) -> int:
    return run_guarded(call, wants_json=lambda: False, is_verbose=lambda: False)


def test_help_names_every_command(run: Run) -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert all(f"\n  {command} " in result.stdout for command in COMMANDS)


def test_without_a_command_the_help_is_shown_as_a_mistake(run: Run) -> None:
    result = run()
    assert result.exit_code == 2
    assert "Commands:" in result.output


def test_version_is_that_of_the_distribution(run: Run) -> None:
    assert run("--version").stdout == f"regwarden {__version__}\n"


@pytest.mark.parametrize(
    "arguments", [(name, "--help") for name in COMMANDS] + [("tag", "list", "--help"), ("registry", "check", "--help")]
)
def test_every_command_explains_itself(run: Run, arguments) -> None:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert "Usage: regwarden" in result.stdout


def test_help_imports_nothing_heavy() -> None:
    heavy = ("rich", "sqlalchemy", "aiohttp", "structlog", "numpy", "docker", "asyncio", "msgspec", "alembic")
    code = (
        "import sys\n"
        "from regwarden.cli.main import cli\n"
        "try: cli(['--help'])\n"
        "except SystemExit: pass\n"
        f"print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stderr.strip() == "[]"


@pytest.mark.parametrize(
    "arguments",
    [
        "tag list",
        "token list",
        "token create ci --role viewer",
        "allow list",
        "allow check x",
        "db check",
        "export tag",
    ],
)
def test_what_only_the_service_needs_is_not_loaded_by_other_commands(tmp_path: Path, arguments: str) -> None:
    heavy = ("fastapi", "pydantic", "starlette", "uvicorn", "joserfc", "cryptography", "ldap3", "watchfiles", "aiohttp")
    database = f"sqlite:///{tmp_path / 'inventory.sqlite3'}"
    open_database(database, access=Access.WRITE, create=True).close()
    code = (
        "import sys\n"
        "from regwarden.cli.main import cli\n"
        f"try: cli({[*arguments.split(), '--database', database]!r})\n"
        "except SystemExit as ended: print(ended.code)\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *_, status, loaded = result.stdout.splitlines()
    assert (status in ("0", "1", "3"), loaded) == (True, "[]"), result.stderr


def test_the_module_can_be_run() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "regwarden", "--version"], capture_output=True, text=True, check=True
    )
    assert result.stdout == f"regwarden {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("tga",), ("error[usage]", "tag")),
        (("tag", "lst"), ("error[usage]", "list")),
        (("tag", "list", "--otput", "json"), ("there is no option --otput", "--output")),
        (("tag", "list", "--output", "xml"), ("error[usage]", "json")),
        (("export", "image"), ("error[usage]", "repository")),
    ],
)
def test_a_misspelt_command_gets_a_hint(run: Run, arguments, words) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert all(word in result.stderr for word in words), result.stderr


def test_an_unforeseen_error_is_one_sentence_without_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise RuntimeError("https://user:hunter2@registry.example.com said no")

    assert guarded(fail) == 1
    shown = capsys.readouterr().err
    assert "error[unforeseen]" in shown
    assert "report" in shown
    assert "hunter2" not in shown
    assert "Traceback" not in shown


def test_an_error_for_programs_is_one_json_object_and_nothing_else(run: Run, tmp_path: Path) -> None:
    nowhere = f"sqlite:///{tmp_path / 'none.sqlite3'}"
    failed = json.loads(run("tag", "list", "--output", "json", "--database", nowhere).stderr)
    assert (failed["error"]["code"], bool(failed["error"]["hint"])) == ("no-inventory", True)
    misspelt = json.loads(run("tag", "list", "--output", "json", "--where").stderr)
    assert misspelt["error"]["code"] == "usage"


def test_a_missing_argument_is_one_printable_line(run: Run) -> None:
    result = run("export")
    assert result.exit_code == 2
    assert "registry, repository, tag, manifest, blob" in result.stderr
    assert "x09" not in result.stderr


def test_an_interrupt_is_status_130(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    assert guarded(interrupt) == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.skipif(not hasattr(signal, "SIGPIPE"), reason="this system has no SIGPIPE")
@pytest.mark.parametrize("asked", ["export tag --format jsonl", "tag list", "tag list --output json", "usage"])
def test_a_closed_pipe_ends_quietly_as_by_its_signal(asked: str, inventory_url: str, tmp_path: Path) -> None:
    environ = {key: value for key, value in isolated_environment(tmp_path).items() if value is not None}
    command = [sys.executable, "-m", "regwarden", *asked.split(), "--database", inventory_url]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    stderr = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=30) == 141
    assert "rror" not in stderr


def test_the_default_configuration_is_accepted_by_the_check(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "regwarden.toml"
    file.write_text(run("config", "default").stdout)
    result = run("config", "check", str(file))
    assert result.exit_code == 0
    assert "correct" in result.stderr


def test_a_configuration_with_a_mistake_is_refused_with_its_line(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "regwarden.toml"
    file.write_text("[defaults]\nretires = 3\n")
    result = run("config", "check", str(file))
    assert result.exit_code == 2
    assert f"{file}:2: there is no setting defaults.retires" in result.stderr
    assert "Did you mean retries?" in result.stderr


def test_a_check_finds_a_password_file_that_cannot_be_read(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "regwarden.toml"
    file.write_text('[[registry]]\nname="a"\nurl="https://a.example"\nusername="u"\npassword_file="/nonexistent"\n')
    assert run("config", "check", str(file)).exit_code == 2


def test_show_names_the_source_of_every_value_and_hides_secrets(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "regwarden.toml"
    file.write_text('[[registry]]\nname = "prod-eu"\nurl = "https://registry.example.com"\nusername = "reader"\n')
    result = run(
        "config",
        "show",
        "--output",
        "json",
        "--database",
        "postgresql://me:hunter2@db/regwarden",
        REGWARDEN_CONFIG=str(file),
        REGWARDEN_REGISTRY_PROD_EU_PASSWORD="s3cret",
        REGWARDEN_DEFAULTS_RETRIES="2",
    )
    rows = {row["setting"]: row for row in json.loads(result.stdout)}
    assert rows["defaults.retries"] == {
        "setting": "defaults.retries",
        "value": 2,
        "source": "environment REGWARDEN_DEFAULTS_RETRIES",
    }
    assert rows["registry.prod-eu.url"]["source"] == f"file {file}:3"
    assert rows["registry.prod-eu.password"]["value"] == "(hidden)"
    assert rows["database"]["source"] == "--database"
    assert rows["defaults.page_size"]["source"] == "default"
    assert "s3cret" not in result.output
    assert "hunter2" not in result.output


def test_the_demo_shows_the_sample_registry_and_commands_for_the_same_database(run: Run, tmp_path: Path) -> None:
    result = run("demo")
    assert result.exit_code == 0, result.stderr
    database = f"sqlite:///{tmp_path / 'data' / 'regwarden' / 'demo.sqlite3'}"
    assert "Largest repositories" in result.stdout
    suggestions = [line.strip() for line in result.stdout.splitlines() if line.startswith("  regwarden --database ")]
    assert len(suggestions) >= 4
    assert all(database in line for line in suggestions)


def test_what_the_demo_suggests_can_be_pasted(run: Run, tmp_path: Path) -> None:
    import shlex

    shown = run("demo", "--database", f"sqlite:///{tmp_path / 'my demo.sqlite3'}").stdout
    for line in shown.splitlines():
        if line.startswith("  regwarden --database ") and "export" not in line:
            result = run(*shlex.split(line)[1:])
            assert result.exit_code == 0, (line, result.stderr)
            assert result.stdout, line


def test_a_second_demo_begins_anew(run: Run) -> None:
    first, second = run("demo"), run("demo")
    assert (first.exit_code, second.exit_code) == (0, 0), first.stderr + second.stderr
    assert "708 tags" in second.stdout
    assert "since the last crawl" not in second.stdout
    assert "unchanged" not in second.stdout


def test_the_demo_leaves_a_database_with_another_inventory_alone(run: Run, inventory_url: str) -> None:
    refused = run("demo", "--database", inventory_url)
    assert refused.exit_code == 2
    assert "database of its own" in refused.stderr
    assert run("tag", "list", "--count", "--database", inventory_url).stdout == "5\n"


def test_a_demo_of_ones_own_registry_has_its_own_file(run: Run, tmp_path: Path) -> None:
    with small_registry() as registry:
        result = run("demo", registry.url)
    assert result.exit_code == 0, result.stderr
    name = registry.url.partition("://")[2].replace(":", "_")
    assert [file.name for file in (tmp_path / "data" / "regwarden").glob("*.sqlite3")] == [f"demo-{name}.sqlite3"]


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_demo_keeps_the_sample_and_every_registry_apart() -> None:
    def shown(*arguments: str) -> str:
        root = Path(__file__).parent.parent.parent
        return subprocess.run(
            ["make", "-n", "demo", *arguments], cwd=root, capture_output=True, text=True, check=True
        ).stdout

    assert "'sqlite:///.demo/sample.sqlite3'" in shown()
    mine = shown("REGISTRY=https://registry.example.com:5000/team/")
    assert "'sqlite:///.demo/registry.example.com_5000_team.sqlite3' 'https://registry.example.com:5000/team/'" in mine
