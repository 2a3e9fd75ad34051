"""Can a stranger install what we build, and does it crawl there?"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import servers

pytestmark = [pytest.mark.packaging, pytest.mark.timeout(600)]

ROOT = servers.ROOT
UV = Path(sys.executable).with_name("uv")


@dataclass(frozen=True)
class Distributions:
    """The two files that a release publishes."""

    sdist: Path
    wheel: Path


@dataclass(frozen=True)
class Environment:
    """A fresh virtual environment with Regwarden in it, and nothing of the repository on its path."""

    folder: Path

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run ``regwarden`` outside the repository, with settings of its own."""
        return _run([str(self.program("regwarden")), *arguments], cwd=self.folder, environment=self._variables())

    def program(self, name: str) -> Path:
        return self.folder / ("Scripts" if os.name == "nt" else "bin") / name

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [str(self.program("python")), *arguments],
            cwd=self.folder,
            env=self._variables(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def _variables(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("REGWARDEN_", "PYTHON"))}
        return {**kept, "HOME": str(self.folder), "XDG_CONFIG_HOME": str(self.folder / "config")}


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    """Built as ``make dist`` does: the wheel from the source distribution."""
    folder = tmp_path_factory.mktemp("dist")
    _run([str(UV), "build", "--quiet", "--python", sys.executable, "--out-dir", str(folder), str(ROOT)])
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return Distributions(sdist, wheel)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain clone of what is committed."""
    folder = tmp_path_factory.mktemp("clone") / "regwarden"
    _run(["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(folder)])
    return folder


@pytest.fixture(scope="module", params=["wheel", "git"])
def installed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Regwarden in a fresh environment, once from the wheel and once from a ``git+file`` URL."""
    if request.param == "wheel":
        source = str(request.getfixturevalue("distributions").wheel)
    else:
        source = f"regwarden @ git+{request.getfixturevalue('clone').as_uri()}"
    environment = Environment(tmp_path_factory.mktemp(request.param) / "venv")
    _run([str(UV), "venv", "--quiet", "--python", sys.executable, str(environment.folder)])
    _run([str(UV), "pip", "install", "--quiet", "--python", str(environment.program("python")), *_pinned(), source])
    return environment


@pytest.fixture
def sample_registry(installed: Environment) -> Iterator[str]:
    """The URL of the bundled sample registry, started from the installed package."""
    process = installed.start("-m", "regwarden.testing", "--port", "0")
    try:
        assert process.stdout is not None
        url = process.stdout.readline().decode().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", url), url
        yield url
    finally:
        servers.end_process(process)
        if process.stdout is not None:
            process.stdout.close()


def test_the_installed_command_says_its_version_and_explains_itself(installed):
    version = re.search(r'__version__ = "(.+)"', (ROOT / "src" / "regwarden" / "_version.py").read_text())
    assert version
    assert installed.run("--version").stdout.strip().endswith(version[1])
    assert "crawl" in installed.run("--help").stdout


def test_the_installed_command_crawls_a_registry(installed, sample_registry, tmp_path):
    database = f"sqlite:///{tmp_path / 'inventory.sqlite3'}"
    installed.run("crawl", sample_registry, "--database", database)
    tags = json.loads(installed.run("tag", "list", "--output", "json", "--database", database).stdout)
    assert tags
    assert all({"registry", "repository", "tag", "digest"} <= set(tag) for tag in tags)


def test_the_wheel_holds_the_package_and_its_migrations_and_nothing_else(distributions):
    with zipfile.ZipFile(distributions.wheel) as archive:
        names = archive.namelist()
    folders = {name.partition("/")[0] for name in names}
    assert {folder for folder in folders if not folder.endswith(".dist-info")} == {"regwarden"}
    assert "regwarden/py.typed" in names
    assert any(re.fullmatch(r"regwarden/store/migrations/versions/\w+\.py", name) for name in names)
    assert any(name.endswith("/licenses/LICENSE") for name in names)


def _pinned() -> list[str]:
    return ["--constraint", str(ROOT / "requirements" / "constraints.txt")]


def _run(
    command: list[str], *, cwd: Path | None = None, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    completed = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert completed.returncode == 0, f"{command} ended with {completed.returncode}:\n{completed.stderr[-3000:]}"
    return completed
