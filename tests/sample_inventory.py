"""A small registry that a person can add up, and the command line on it; shared by the tests of what a user touches."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from click.testing import CliRunner, Result

from regwarden.cli.main import cli
from regwarden.testing.authentication import Auth
from regwarden.testing.content import Content
from regwarden.testing.images import image, image_config, index, layer
from regwarden.testing.server import SampleRegistry, running_sample_registry

BASE_BYTES = 1_000_000
APP_BYTES = 250_000

Run = Callable[..., Result]


def small_content() -> Content:
    """Two repositories that share a base layer, one multi-arch image, one hostile label."""
    base = layer("base", BASE_BYTES)
    content = Content()
    app = content.repository("team/app")
    for minor in range(3):
        config = image_config(created=datetime(2026, 1 + minor, 1, tzinfo=UTC), labels={"minor": str(minor)})
        app.add(image([base, layer(f"app-{minor}", APP_BYTES * (minor + 1))], config), f"1.{minor}.0")
    app.set_tag("latest", app.tags["1.2.0"])
    hostile = image_config("linux/arm64", labels={"title": "\x1b[31m=red\u202e"})
    web = content.repository("team/web")
    arm, amd = image([base, layer("web-arm", 70_000)], hostile), image([base, layer("web-amd", 80_000)])
    web.add(index([amd, arm]), "edge")
    return content


@contextmanager
def small_registry(auth: Auth = None) -> Iterator[SampleRegistry]:
    """The small registry, running."""
    with running_sample_registry(small_content(), auth=auth) as registry:
        yield registry


def isolated_environment(place: Path) -> dict[str, str | None]:
    """An environment in which nothing of this machine's user is found; ``None`` removes a variable."""
    removed = [name for name in os.environ if name.startswith(("REGWARDEN", "REGISTRY", "REQUESTS_CA"))]
    return {
        **dict.fromkeys(removed),
        "HOME": str(place),
        "XDG_CONFIG_HOME": str(place / "config"),
        "XDG_DATA_HOME": str(place / "data"),
        "DOCKER_CONFIG": str(place / "docker"),
        "COLUMNS": "100",
    }


def run_cli(place: Path, *arguments: str, stdin: str | None = None, **environ: str) -> Result:
    """Run the command line in this process, isolated in ``place``."""
    return CliRunner().invoke(cli, arguments, input=stdin, env={**isolated_environment(place), **environ})
