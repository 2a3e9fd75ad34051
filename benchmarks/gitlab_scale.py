"""How long does a repository of GitLab with 26,788 tags take: crawl, plan, apply, undo? And how many requests?

It lies in a real docker-registry behind the made-up GitLab of the tests (mode "database"), which runs in a process of
its own. ``--manifests`` says how many manifests the tags point to. All but about ``--keep`` of the tags are removed,
one by one, and then put back. Ours is the library in this process.
"""

from __future__ import annotations

import argparse
import cProfile
import hashlib
import json
import os
import pstats
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).parents[1]
REPOSITORY, NAME = "team/big", "w"
CONFIGURATION = """\
[[registry]]
name = "w"
kind = "gitlab"
url = "{registry}"
gitlab_url = "{gitlab}"
gitlab_projects = ["team/big"]
password_file = "{password_file}"
"""
POLICY = """\
apiVersion: retention/v1
kind: Policy
metadata: {{name: big}}
scope: {{registries: [w]}}
keep: [{{newest: {keep}, rank: {{by: created, count: tags}}}}]
delete: [{{match: {{}}}}]
limits: {{per-run: {{manifests: unlimited, share-of-repo: 100%}}}}
"""
WAIVED = ("min-age", "never-empty", "repository-share", "manifest-limit")
LAYER_BYTES = 1_000
T = TypeVar("T")


@dataclass
class Double:
    """The made-up GitLab in its process."""

    process: subprocess.Popen[str]
    gitlab: str = ""
    registry: str = ""
    token: str = ""

    def count(self) -> Counter[str]:
        """Requests by part and method since the last call."""
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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tags", type=int, default=26_788)
    parser.add_argument("--manifests", type=int, default=300)
    parser.add_argument("--keep", type=int, default=25_288)
    parser.add_argument("--profile", action="store_true", help="where the time of each stage goes")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(Path(arguments.serve), arguments.tags, arguments.manifests)
        return
    with tempfile.TemporaryDirectory() as name, double(Path(name), arguments) as server:
        measure(Path(name), server, arguments)


def measure(folder: Path, server: Double, arguments: argparse.Namespace) -> None:
    from regwarden import connect

    config, url = write_configuration(folder, server), f"sqlite:///{folder}/inventory.sqlite3"
    policy = POLICY.format(keep=arguments.keep)
    server.count()

    def timed(label: str, work: Callable[[], T]) -> T:
        profile = cProfile.Profile() if arguments.profile else None
        started, cpu_started = time.perf_counter(), time.process_time()
        found = profile.runcall(work) if profile else work()
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu_started
        asked = server.count()
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(asked.items()))
        print(f"{label:22}{seconds:8.2f} s {cpu:8.2f} s CPU  {asked.total()} requests ({kinds})", flush=True)
        if profile:
            pstats.Stats(profile).sort_stats("tottime").print_stats(25)
        return found

    with connect(url, config=config, environ={"HOME": str(folder)}) as inventory:
        timed("crawl", lambda: inventory.crawl(NAME))
        timed("crawl again", lambda: inventory.crawl(NAME))
        plan_id = timed("plan", lambda: inventory.create_plan(policies={"big.yaml": policy}, waive=WAIVED))
        timed("approve", lambda: inventory.approve_plan(plan_id))
        report = timed("apply", lambda: inventory.apply_plan(plan_id, waive=("no-live-events",)))
        print(report.state, dict(report.results), report.problems[:3], report.skipped[:3], report.stopped)
        undone = timed("undo", lambda: inventory.undo_plan(plan_id))
        print(undone.state, undone.tag_count)


def write_configuration(folder: Path, server: Double) -> Path:
    password_file, file = folder / "token", folder / "w.toml"
    password_file.write_text(server.token)
    password_file.chmod(0o600)
    file.write_text(CONFIGURATION.format(registry=server.registry, gitlab=server.gitlab, password_file=password_file))
    return file


@contextmanager
def double(folder: Path, arguments: argparse.Namespace) -> Iterator[Double]:
    """The made-up GitLab, filled."""
    sizes = ["--tags", str(arguments.tags), "--manifests", str(arguments.manifests)]
    command = [sys.executable, __file__, "--serve", str(folder), *sizes]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT
    )
    server = Double(process)
    try:
        server.gitlab, server.registry, server.token = server.read()
        yield server
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


def serve(folder: Path, tag_count: int, manifest_count: int) -> None:
    """Be the made-up GitLab until the standard input ends; a line there asks for the requests since the last one."""
    from tests.gitlab_double.running import running_gitlab
    from tests.gitlab_settings import scenario_of

    (folder / "gitlab").mkdir()
    with running_gitlab(folder / "gitlab", mode="database", scenario=scenario_of([REPOSITORY])) as gitlab:
        digests = write_manifests(gitlab.storage.root, manifest_count)
        for place, digest in enumerate(digests):
            names = [f"v{number:06d}" for number in range(place, tag_count, manifest_count)]
            gitlab.fill_tags(REPOSITORY, digest, names, at=1_600_000_000 + place * 60)
        gitlab.storage.touch(REPOSITORY)
        print(json.dumps([gitlab.url, gitlab.registry_url, gitlab.tokens["maintainer"]]), flush=True)
        for _ in sys.stdin:
            counted = Counter(f"{one.part} {one.method}" for one in gitlab.requests)
            gitlab.forget_requests()
            print(json.dumps(counted), flush=True)


def write_manifests(root: Path, count: int) -> list[str]:
    """Images of a layer that all share and a configuration of their own, in the files of Distribution."""
    shared = write_blob(root, b"\0" * LAYER_BYTES, "_layers")
    found = []
    for number in range(count):
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(1_600_000_000 + number * 60))
        config = json.dumps({"architecture": "amd64", "os": "linux", "created": created, "number": number}).encode()
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": {
                "mediaType": "application/vnd.docker.container.image.v1+json",
                "size": len(config),
                "digest": write_blob(root, config, "_layers"),
            },
            "layers": [
                {
                    "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                    "size": LAYER_BYTES,
                    "digest": shared,
                }
            ],
        }
        found.append(write_blob(root, json.dumps(manifest).encode(), "_manifests/revisions"))
    return found


def write_blob(root: Path, content: bytes, place: str) -> str:
    """Lay a blob into the storage and link it into the repository; its digest."""
    digest = hashlib.sha256(content).hexdigest()
    file = root / "blobs" / "sha256" / digest[:2] / digest / "data"
    link = root / "repositories" / REPOSITORY / place / "sha256" / digest / "link"
    for path, text in ((file, content), (link, f"sha256:{digest}".encode())):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
    return f"sha256:{digest}"


if __name__ == "__main__":
    main()
