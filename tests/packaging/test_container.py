"""Is the container recipe sound, and does what it builds run? The second takes a builder; the first is always seen."""

from __future__ import annotations

import fnmatch
import http.client
import http.server
import json
import re
import shlex
import shutil
import subprocess
import sys
import threading
import tomllib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from regwarden.cli.main import cli
from regwarden.settings_sources import SYSTEM_FILE, default_database, load_settings
from tests import servers

pytestmark = pytest.mark.packaging

ROOT = servers.ROOT
DEPLOY = ROOT / "deploy"
DATA = "/var/lib/regwarden"
SECRET_NAME = re.compile(r"password|secret|token|key", re.IGNORECASE)


@dataclass(frozen=True)
class Instruction:
    """One line of a recipe: its word, and the rest with continued lines joined."""

    word: str
    text: str

    @property
    def words(self) -> list[str]:
        """The rest as a list, in either form."""
        return json.loads(self.text) if self.text.startswith("[") else shlex.split(self.text)


def read_recipe(text: str) -> list[list[Instruction]]:
    """The stages of a recipe, the first being what stands before any ``FROM``."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    stages: list[list[Instruction]] = [[]]
    for line in filter(None, map(str.strip, joined.splitlines())):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            stages.append([])
        stages[-1].append(Instruction(word, rest.strip()))
    return stages


STAGES = read_recipe((ROOT / "Containerfile").read_text(encoding="utf-8"))
LAST = STAGES[-1]
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))


def of(word: str, stage: list[Instruction] | None = None) -> list[Instruction]:
    return [one for one in (LAST if stage is None else stage) if one.word == word]


def environment(stage: list[Instruction]) -> dict[str, str]:
    return dict(pair.split("=", 1) for one in of("ENV", stage) for pair in one.words)


# ---------------------------------------------------------------------------------------------- the recipe


def test_it_runs_as_a_user_without_rights_whose_number_is_fixed():
    assert [one.text for one in of("USER")] == ["8350:8350"]
    account = " ".join(one.text for one in of("RUN"))
    assert "--uid 8350 --gid 8350" in account
    assert [one.word for one in LAST if one.word in {"RUN", "COPY", "USER"}][-1] == "USER"


def test_arguments_are_those_of_the_program_and_there_is_a_default():
    (entry_point,), (default,) = of("ENTRYPOINT"), of("CMD")
    assert entry_point.words == ["regwarden"]
    context = cli.make_context("regwarden", list(default.words))
    _, command, rest = cli.resolve_command(context, [*context._protected_args, *context.args])
    assert command is not None
    assert command.make_context("serve", rest, parent=context).params["listen"] == ("0.0.0.0:8350",)
    assert [one.text for one in of("EXPOSE")] == ["8350"]


def test_the_volume_holds_the_database_unless_the_settings_name_another(monkeypatch, tmp_path):
    (volume,) = of("VOLUME")
    assert volume.words == [DATA]
    variables = environment(LAST)
    for name, value in variables.items():
        if name != "PATH":
            monkeypatch.setenv(name, value)
    assert default_database().startswith(f"sqlite:///{DATA}/")
    assert load_settings(variables).settings.database == ""
    file = tmp_path / "regwarden.toml"
    file.write_text('database = "postgresql://regwarden@postgresql/regwarden"\n')
    assert load_settings(variables, file=file).settings.database.startswith("postgresql:")


def test_the_configuration_is_mounted_where_the_program_looks():
    assert f"install --directory --mode 0755 {SYSTEM_FILE.parent}" in " ".join(one.text for one in of("RUN"))
    mounts = [entry.split(":") for entry in COMPOSE["services"]["regwarden"]["volumes"]]
    assert ["./regwarden.toml", str(SYSTEM_FILE), "ro"] in mounts


def test_what_it_copies_exists_and_reaches_the_builder():
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = [rule.removeprefix("!") for rule in rules if rule.startswith("!")]
    copied = [one.words for one in of("COPY", STAGES[1])]
    for *sources, _target in copied:
        for source in sources:
            assert (ROOT / source).exists(), source
            assert any(fnmatch.fnmatch(source, rule) for rule in allowed), source
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = {project["project"]["readme"], *project["project"]["license-files"], "pyproject.toml", "src"}
    assert needed <= {source for *sources, _ in copied for source in sources}
    assert project["build-system"]["build-backend"] == "hatchling.build"


def test_everything_that_is_installed_is_pinned_and_nothing_is_fetched_by_hand():
    runs = [one.text for stage in STAGES for one in of("RUN", stage)]
    installs = [part for run in runs for part in run.split("&&") if "pip install" in part]
    assert len(installs) == 2
    assert all("--constraint requirements/constraints.txt" in part for part in installs)
    assert not any(re.search(r"\b(curl|wget|apt-get)\b", run) for run in runs)
    assert not any(of("ADD", stage) for stage in STAGES)


def test_no_secret_is_built_in():
    for stage in STAGES:
        names = list(environment(stage)) + [one.text.partition("=")[0] for one in of("ARG", stage)]
        assert [name for name in names if SECRET_NAME.search(name)] == []


class Answers(http.server.BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/healthz" else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.mark.parametrize(("status", "ended"), [(200, 0), (500, 1)])
def test_the_health_check_asks_the_service(status, ended):
    (check,) = of("HEALTHCHECK")
    program, *arguments = json.loads(check.text.partition("CMD ")[2])
    assert program == "python"
    handler = type("Handler", (Answers,), {"status": status})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        code = [argument.replace("8350", str(server.server_port)) for argument in arguments]
        completed = subprocess.run([sys.executable, *code], check=False, timeout=30, capture_output=True)
        server.shutdown()
    assert completed.returncode == ended


# ---------------------------------------------------------------------------------------------- the compose file


def test_no_password_stands_in_the_compose_file_and_none_has_a_default():
    for name, service in COMPOSE["services"].items():
        for variable, value in service.get("environment", {}).items():
            if SECRET_NAME.search(variable):
                is_required = re.fullmatch(r"\$\{\w+:\?[^}]+\}", value)
                assert is_required or value.startswith("/run/secrets/"), f"{name}: {variable}"
            assert "@" not in value or ":" not in value.partition("://")[2].partition("@")[0], f"{name}: {variable}"
    assert all(set(secret) == {"file"} for secret in COMPOSE["secrets"].values())


def test_nothing_is_reached_from_other_machines_by_itself():
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    service = COMPOSE["services"]["regwarden"]
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])


def test_what_the_compose_file_mounts_and_names_is_there():
    for service in COMPOSE["services"].values():
        for mount in service.get("volumes", []):
            source = mount.partition(":")[0]
            assert (DEPLOY / source).exists() if source.startswith(".") else source in COMPOSE["volumes"], mount
        assert set(service.get("secrets", [])) <= set(COMPOSE["secrets"])
        assert set(service.get("depends_on", {})) <= set(COMPOSE["services"])
    build = COMPOSE["services"]["regwarden"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).resolve() == ROOT / "Containerfile"
    assert f"regwarden:{DATA}" in COMPOSE["services"]["regwarden"]["volumes"]


def test_the_settings_of_the_compose_file_are_ones_that_exist_and_fit_the_registry():
    variables = {
        name: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)
        for name, value in COMPOSE["services"]["regwarden"]["environment"].items()
    }
    loaded = load_settings(variables, file=DEPLOY / "regwarden.toml")
    assert loaded.warnings == ()
    assert loaded.settings.server.public_url == "http://127.0.0.1:8350"
    (registry,) = loaded.settings.registry
    beside = COMPOSE["services"]["registry"]["environment"]
    assert beside["HOOK_URL"].endswith(f":8350/hooks/{registry.name}")
    assert registry.hook_secret_files == (beside["HOOK_SECRET_FILE"],)
    assert "postgresql" in COMPOSE["services"]
    assert loaded.settings.database == "postgresql://regwarden@postgresql/regwarden"


def test_secrets_that_lie_beside_it_are_not_committed():
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {"deploy/.env", "deploy/secrets/"} <= set(ignored)


# ---------------------------------------------------------------------------------------------- with a builder


@dataclass(frozen=True)
class Builder:
    """A program that builds and runs containers."""

    program: str
    tag: str

    def run(self, *arguments: str, timeout: float = 120) -> str:
        completed = subprocess.run(
            [self.program, *arguments], check=False, capture_output=True, text=True, timeout=timeout
        )
        assert completed.returncode == 0, f"{arguments}: {completed.stderr[-3000:]}"
        return completed.stdout.strip()


def find_builder() -> tuple[str, str]:
    """A builder whose daemon works, else why there is none."""
    reasons = []
    for program in ("docker", "podman"):
        if shutil.which(program) is None:
            reasons.append(f"{program} is not installed")
            continue
        completed = subprocess.run([program, "info"], check=False, capture_output=True, text=True, timeout=60)
        # `docker info` ends with 0 in old versions although no daemon answers; it says so in its last line.
        if completed.returncode == 0 and "Cannot connect" not in completed.stdout + completed.stderr:
            return program, ""
        lines = (completed.stderr or completed.stdout).strip().splitlines() or ["it says nothing"]
        reasons.append(f"{program} does not work here ({lines[-1].strip()[:160]})")
    return "", "; ".join(reasons)


@pytest.fixture(scope="module")
def built() -> Iterator[Builder]:
    """The container, built. Without a builder a visible skip, in CI too: CI itself runs in a container without one."""
    program, reason = find_builder()
    if not program:
        pytest.skip(f"the container is not built: {reason}")
    builder = Builder(program, f"regwarden-test:{uuid.uuid4().hex[:12]}")
    builder.run("build", "--file", str(ROOT / "Containerfile"), "--tag", builder.tag, str(ROOT), timeout=1500)
    yield builder
    builder.run("rmi", "--force", builder.tag)


@pytest.mark.timeout(1800)
def test_the_container_explains_itself_and_takes_arguments(built):
    assert "crawl" in built.run("run", "--rm", built.tag, "--help")
    assert "regwarden" in built.run("run", "--rm", built.tag, "--version")
    assert built.run("run", "--rm", "--entrypoint", "id", built.tag, "-u") == "8350"


@pytest.mark.timeout(600)
def test_the_container_serves_keeps_its_database_and_ends_in_peace(built, tmp_path):
    file = tmp_path / "regwarden.toml"
    file.write_text('[[registry]]\nname = "local"\nurl = "http://127.0.0.1:1"\ncrawl_every = "never"\n')
    file.chmod(0o644)
    tmp_path.chmod(0o755)
    name = f"regwarden-test-{uuid.uuid4().hex[:12]}"
    mount = f"{file}:{SYSTEM_FILE}:ro"
    options = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--volume", mount)
    built.run("run", "--detach", "--name", name, *options, "--publish", "127.0.0.1::8350", built.tag)
    try:
        address = built.run("port", name, "8350/tcp").splitlines()[0]
        servers.wait_until(lambda: is_healthy(address), what="the container to answer", timeout_seconds=60)
        assert built.run("exec", name, "ls", DATA).split()[0].startswith("regwarden.sqlite3")
        assert "local" in built.run("exec", name, "regwarden", "config", "show")
        built.run("stop", "-t", "20", name)
        assert built.run("inspect", "--format", "{{.State.ExitCode}}", name) == "0"
    finally:
        built.run("rm", "--force", "--volumes", name)


def is_healthy(address: str) -> bool:
    connection = http.client.HTTPConnection(address, timeout=5)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
