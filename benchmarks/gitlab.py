"""How long does a crawl of a GitLab take, and how many requests, beside gitlab-registry-usage 0.3.3?

Workload W, as Docker's images and as OCI's, lies in a real docker-registry behind the made-up GitLab of the tests,
which runs in a process of its own and counts what it is asked. ``--predecessor PYTHON`` (one into which
``pip install gitlab-registry-usage==0.3.3`` went) measures ``GitLabRegistry.update()`` in the same run. Latency delays
every answer, of GitLab and of its registry. Ours is the library in this process; the command's whole time is separate.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crawl import relay, running_registry
from workload import push_workload

ROOT = Path(__file__).parents[1]
FAMILIES, REPOSITORIES = 5, 50
CONFIGURATION = """\
[[registry]]
name = "w"
kind = "gitlab"
url = "{registry}"
gitlab_url = "{gitlab}"
password_file = "{password_file}"
"""
PREDECESSOR = """
import json, sys, time
from gitlab_registry_usage import GitLabRegistry
gitlab, registry, user, token = sys.argv[1:]
theirs = GitLabRegistry(gitlab + "/", registry + "/", user, token)
started = time.perf_counter()
theirs.update()
seconds = time.perf_counter() - started
layers = theirs.repository_layers.values()
print(json.dumps([seconds, sum(len(one) for one in layers if one), sum(one is None for one in layers)]))
"""


@dataclass
class Double:
    """The made-up GitLab in its process."""

    process: subprocess.Popen[str]
    gitlab: str
    registry: str
    token: str

    def count(self) -> Counter[str]:
        """Requests by part (and how many were for tokens, or wrote) since the last call."""
        assert self.process.stdin is not None
        self.process.stdin.write("count\n")
        self.process.stdin.flush()
        return Counter(self.read())

    def read(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the double has ended"
        return json.loads(line)


def main() -> None:
    if sys.argv[1:2] == ["--serve"]:
        serve(Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4], float(sys.argv[5]))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--latency-ms", type=float, nargs="*", default=[0.0, 10.0])
    parser.add_argument("--modes", nargs="*", default=["plain", "database"])
    parser.add_argument("--forms", nargs="*", choices=["Docker", "OCI"], default=["Docker", "OCI"])
    parser.add_argument("--predecessor", metavar="PYTHON", default="")
    arguments = parser.parse_args()
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import regwarden.library, regwarden.wiring"], check=True)
    print(f"start-up (imports of a crawl, a process of its own): {time.perf_counter() - started:.2f} s")
    for form in arguments.forms:
        with tempfile.TemporaryDirectory() as name:
            with running_registry(Path(name)) as url:
                push_workload(url, is_oci=form == "OCI")
            for mode in arguments.modes:
                for latency_ms in arguments.latency_ms:
                    measure(Path(name), f"{form}, mode {mode}, {latency_ms:g} ms", mode, latency_ms, arguments)


def measure(folder: Path, title: str, mode: str, latency_ms: float, arguments: argparse.Namespace) -> None:
    """Run ours and theirs in turn against one double and print the figures."""
    ours: list[float] = []
    bare: list[float] = []
    again: list[float] = []
    theirs: list[float] = []
    with tempfile.TemporaryDirectory() as place, double(Path(place), folder / "storage", mode, latency_ms) as server:
        for number in range(arguments.rounds):
            database = f"sqlite:///{place}/{number}.sqlite3"
            seconds, report = crawl(Path(place), database, server)
            ours.append(seconds)
            requests = server.count()
            again.append(crawl(Path(place), database, server)[0])
            again_requests = server.count()
            bare.append(crawl(Path(place), f"sqlite:///{place}/{number}b.sqlite3", server, with_configs=False)[0])
            bare_requests = server.count()
            if number == 0:
                print(f"{title}: {report}")
            if arguments.predecessor:
                seconds, tags, unread = predecessor(arguments.predecessor, server)
                theirs.append(seconds)
                their_requests = server.count()
        command = time_command(Path(place), server)
    print(f"  ours            {spread(ours)}  {shown(requests)}; the command with its start-up {command:.2f} s")
    print(f"  ours, again     {spread(again)}  {shown(again_requests)}")
    print(f"  without configs {spread(bare)}  {shown(bare_requests)}", flush=True)
    if theirs:
        print(f"  predecessor     {spread(theirs)}  {shown(their_requests)}; {tags} tags, {unread} repositories unread")
        for label, taken, asked in (("ours", ours, requests), ("without configs", bare, bare_requests)):
            ratio = statistics.median(theirs) / statistics.median(taken)
            fewer = their_requests.total() / asked.total()
            print(f"  {label}: {ratio:.1f} times faster, {fewer:.1f} times fewer requests", flush=True)


def spread(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):8.2f} s [{min(seconds):.2f}-{max(seconds):.2f}]"


def shown(requests: Counter[str]) -> str:
    parts = ", ".join(f"{count} {part}" for part, count in sorted(requests.items()))
    return f"{requests.total()} requests ({parts})"


def crawl(folder: Path, database: str, server: Double, *, with_configs: bool = True) -> tuple[float, str]:
    """Seconds of one crawl, and what it says of itself."""
    from regwarden import connect

    with connect(database, config=write_configuration(folder, server), environ={}) as inventory:
        started = time.perf_counter()
        report = inventory.crawl("w", with_configs=with_configs)
        seconds = time.perf_counter() - started
        assert report.state == "complete", report
        return seconds, f"{len(list(inventory.repositories()))} repositories, {len(list(inventory.tags()))} tags"


def time_command(folder: Path, server: Double) -> float:
    """Seconds of the whole command with an empty database."""
    arguments = ["--config", str(write_configuration(folder, server)), "--database", f"sqlite:///{folder}/c.sqlite3"]
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "regwarden", "crawl", "w", *arguments], check=True, capture_output=True, text=True
    )
    return time.perf_counter() - started


def write_configuration(folder: Path, server: Double) -> Path:
    password_file, file = folder / "token", folder / "w.toml"
    password_file.write_text(server.token)
    password_file.chmod(0o600)
    file.write_text(CONFIGURATION.format(registry=server.registry, gitlab=server.gitlab, password_file=password_file))
    return file


def predecessor(python: str, server: Double) -> tuple[float, int, int]:
    """Seconds of ``GitLabRegistry.update()``, the tags that it has read, and repositories that it has not."""
    command = [python, "-c", PREDECESSOR, server.gitlab, server.registry, "root", server.token]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds, tags, unread = json.loads(done.stdout)
    return seconds, tags, unread


@contextmanager
def double(folder: Path, storage: Path, mode: str, latency_ms: float) -> Iterator[Double]:
    """The made-up GitLab over this storage folder."""
    command = [sys.executable, __file__, "--serve", str(folder), str(storage), mode, str(latency_ms)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT
    )
    server = Double(process, "", "", "")
    try:
        server.gitlab, server.registry, server.token = server.read()
        yield server
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


def serve(folder: Path, storage: Path, mode: Any, latency_ms: float) -> None:
    """Be the made-up GitLab until the standard input ends; a line there asks for the requests since the last one."""
    from aiohttp import web

    from tests.gitlab_double.hosting import Host
    from tests.gitlab_double.running import running_gitlab
    from tests.gitlab_double.scenario import Scenario, sample
    from tests.gitlab_double.state import Group, Project

    usual = sample()
    groups = [Group(1000 + number, f"team{number}") for number in range(FAMILIES)]
    projects = [Project(2000 + n, f"team{n % FAMILIES}/app{n:02d}") for n in range(REPOSITORIES)]
    scenario = Scenario(users=usual.users, tokens=usual.tokens, groups=groups, projects=projects)
    for project in projects:
        scenario.ensure_repository(project.path)
    original = Host.serve
    with ExitStack() as stack:

        def relayed(self: Host, app: web.Application) -> str:
            return stack.enter_context(relay(original(self, app), latency_ms))

        Host.serve = relayed  # type: ignore[method-assign]  # the addresses that everybody is told are delayed ones
        gitlab = stack.enter_context(running_gitlab(folder, mode=mode, scenario=scenario, root=storage))
        registry = gitlab.registry_url
        if mode == "plain":
            registry = stack.enter_context(relay(registry, latency_ms))
        print(json.dumps([gitlab.url, registry, gitlab.tokens["admin"]]), flush=True)
        for _ in sys.stdin:
            counted = Counter(one.part for one in gitlab.requests)
            gitlab.forget_requests()
            print(json.dumps(counted), flush=True)


if __name__ == "__main__":
    main()
