"""A real registry whose notifications go to a running service, what people do to it, and what a fresh crawl finds."""

from __future__ import annotations

import gzip
import http.client
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

import regwarden
from regwarden import connect
from regwarden.library import Inventory
from regwarden.store.database import Access, open_database
from regwarden.store.schema import registries
from regwarden.store.times import from_micros
from regwarden.testing.content import BuiltManifest, Content
from regwarden.testing.images import Layer, image, image_config, index, real_layer
from regwarden.testing.server import running_sample_registry
from tests import servers
from tests.fixtures.distribution_servers import RegistryServer, StartRegistry
from tests.sample_inventory import isolated_environment, run_cli
from tests.serving import Service, hooks_only

LIVE_SECONDS = 30.0
HASTY = Path(__file__).parent / "e2e" / "hasty_service.py"
NOUNS = {
    "repositories": ("repository",),
    "tags": ("repository", "tag"),
    "manifests": ("repository", "digest"),
    "blobs": ("repository", "digest"),
}
# When something was observed depends on who observes it; so does what only an event can tell of, an untagged manifest.
OBSERVED = frozenset(
    """
    first_seen_at seen_at tagged_at pushed_at pulled_at fetched_at checked_at pulls_known_since verified_at
    untagged_since deleted_at manifest_count stored_all_bytes
    """.split()  # noqa: SIM905 -- read as a list
)

# What a crawl asks GitLab itself, and no event tells.
TOLD_BY_GITLAB = frozenset(
    """
    project group owner gitlab_id gitlab_status gitlab_created_at gitlab_bytes gitlab_precision tags_path destroy_path
    published_at is_protected
    """.split()  # noqa: SIM905 -- read as a list
)


def packed(text: str) -> Layer:
    """A layer as clients push it; what is not compressed they would compress, under another digest."""
    return real_layer(gzip.compress(text.encode(), mtime=0))


def picture(seed: str, *, is_oci: bool = True) -> BuiltManifest:
    """An image of two layers, the first of which all of its format share: each format has a type of its own for it."""
    return image([packed(f"shared, OCI: {is_oci}"), packed(f"layer of {seed}")], oci=is_oci)


def multi_platform(seed: str) -> BuiltManifest:
    platforms = ("linux/amd64", "linux/arm64")
    return index(
        [image([packed(f"{seed} layer of {name}")], image_config(name, labels={"of": seed})) for name in platforms]
    )


@dataclass
class Live:
    """One registry ``prod`` and the service that takes its events in, which can be stopped and started again."""

    place: Path
    database_url: str
    registry: RegistryServer
    configuration: str
    source: str = ""
    can_delete_tags: bool = False
    is_hasty: bool = False
    services: list[Service] = field(default_factory=list)
    _services: ExitStack = field(default_factory=ExitStack)
    _fresh_count: int = 0

    @property
    def config(self) -> Path:
        return self.place / "regwarden.toml"

    def start_service(self, *program: str) -> Service:
        """``program`` is what Python runs in place of the command, or of the hasty one."""
        usual = (str(HASTY),) if self.is_hasty else ("-m", "regwarden")
        running = hooks_only(self.place, self.configuration, database_url=self.database_url, program=program or usual)
        self.services.append(self._services.enter_context(running))
        return self.services[-1]

    def stop_service(self) -> None:
        self._services.close()

    def connect(self, database_url: str = "") -> Inventory:
        return connect(database_url or self.database_url, config=self.config, environ={})

    def ask(self, *arguments: str) -> Any:
        """A command in this process, beside the service."""
        return run_cli(self.place, *arguments, REGWARDEN_DATABASE=self.database_url, REGWARDEN_CONFIG=str(self.config))

    def start_command(self, *arguments: str) -> subprocess.Popen[str]:
        """A command in a process of its own."""
        environment = {name: text for name, text in isolated_environment(self.place).items() if text is not None}
        environment |= {"REGWARDEN_DATABASE": self.database_url, "REGWARDEN_CONFIG": str(self.config)}
        # The sources that are tested, not those that are installed, whose schema may be another one.
        environment["PYTHONPATH"] = str(Path(regwarden.__file__).parents[1])
        command = [sys.executable, "-m", "regwarden", *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)

    def copy(self, name: str, target: str, *options: str) -> None:
        """Push an image of the source with skopeo."""
        open_ = ("--src-tls-verify=false", "--dest-tls-verify=false")
        skopeo("copy", *open_, *options, f"docker://{self.source}/{name}", f"docker://{self.registry.host}/{target}")

    def pull(self, name: str, folder: str) -> None:
        skopeo("copy", "--src-tls-verify=false", f"docker://{self.registry.host}/{name}", f"dir:{self.place / folder}")

    def put(self, repository: str, built: BuiltManifest, tag: str = "") -> str:
        """Push over the API, with a tag or by digest; returns the digest."""
        for blob in built.blobs:
            place = self.call("POST", f"{repository}/blobs/uploads/").headers["Location"]
            self.call("PUT", f"{place}&digest={blob.digest}", b"".join(blob.chunks()), "application/octet-stream")
        self.call("PUT", f"{repository}/manifests/{tag or built.digest}", built.payload, built.media_type)
        return str(built.digest)

    def call(self, method: str, path: str, body: bytes | None = None, media_type: str = "") -> http.client.HTTPResponse:
        url = path if path.startswith("http") else f"{self.registry.url}/v2/{path}"
        headers = {"Content-Type": media_type} if media_type else {}
        with urllib.request.urlopen(urllib.request.Request(url, body, headers, method=method), timeout=20) as answer:
            answer.read()
            return answer

    def becomes(self, wanted: Any, read: Callable[[Inventory], Any]) -> None:
        """Wait until the inventory says so, by events alone or after the crawl that they asked for."""
        found: list[Any] = [None]

        def is_so() -> bool:
            found[0] = read(inventory)
            return bool(found[0] == wanted)

        deadline = time.monotonic() + LIVE_SECONDS
        with self.connect() as inventory:
            while (found := read(inventory)) != wanted:
                if time.monotonic() > deadline:
                    pytest.fail(f"the inventory has\n{found}\nand not\n{wanted}", pytrace=False)
                time.sleep(0.1)

    def is_settled(self) -> bool:
        """Whether every event is applied, everything that they named is read, and the sizes are those of now."""
        with self.connect() as inventory:
            status = inventory.notifications("prod", form="none").status
            return not (status.pending_count or status.reread_count)

    def are_sizes_current(self) -> bool:
        """Whether the sizes were computed after the last change that they are made of."""
        late = timedelta(seconds=1 if self.is_hasty else 0)
        with open_database(self.database_url, access=Access.READ) as database:
            changed_at, sized_at = database.read_now(
                lambda connection: connection.execute(select(registries.c.changed_at, registries.c.sized_at)).one()
            )
        return changed_at is None or (sized_at is not None and from_micros(sized_at) > from_micros(changed_at) + late)

    def differences(self, *, ignored: frozenset[str] = frozenset()) -> dict[Any, Any]:
        """What a crawl into an empty database sees otherwise than the inventory, by noun, row and field.

        The service computes sizes some time after what they are made of has changed; that is waited for.
        """
        self.becomes(True, lambda _: self.are_sizes_current())
        self._fresh_count += 1
        found: dict[Any, Any] = {}
        with self.connect() as live, self.connect(f"sqlite:///{self.place}/fresh-{self._fresh_count}.sqlite3") as fresh:
            assert fresh.crawl("prod").state == "complete"
            for noun, key in NOUNS.items():
                ours, theirs = (_by_key(getattr(one, noun)(), key, ignored) for one in (live, fresh))
                more = () if noun in ("manifests", "blobs") else ours.keys() - theirs.keys()
                found |= {(noun, name): "only here" for name in more}
                for name, row in theirs.items():
                    if (mine := ours.get(name)) != row:
                        changed = (
                            {field: (mine[field], row[field]) for field in row if mine[field] != row[field]}
                            if mine
                            else "missing"
                        )
                        found[noun, name] = changed
        return found


def _by_key(rows: Any, key: tuple[str, ...], ignored: frozenset[str]) -> dict[tuple[str, ...], dict[str, Any]]:
    left_out = OBSERVED | ignored
    return {
        tuple(row[name] for name in key): {
            name: value for name, value in row.items() if name not in left_out and not name.startswith("age_")
        }
        for row in rows
    }


def skopeo(*arguments: str) -> str:
    program = servers.require_binary("skopeo")
    return subprocess.run([program, *arguments], check=True, capture_output=True, text=True, timeout=60).stdout


@contextmanager
def live_registry(
    place: Path,
    start: StartRegistry,
    *,
    form: str = "lean",
    database_url: str = "",
    crawl_every: str = "never",
    is_hasty: bool = False,
) -> Iterator[Live]:
    """A registry that was configured with the block which ``registry check`` prints, and a service; both run.

    ``is_hasty``: the service waits seconds where it usually waits a minute.
    """
    hook, port = _free_port(), _free_port()
    url = database_url or f"sqlite:///{place / 'inventory.sqlite3'}"
    registry = start(is_started=False, settings={"http": {"addr": f"127.0.0.1:{port}"}})
    configuration = (
        f'[server]\nlisten = ["127.0.0.1:{hook}"]\n[defaults]\ncrawl_every = "{crawl_every}"\n'
        f"{registry.section('prod')}"
    )
    (place / "regwarden.toml").write_text(configuration)
    printed = run_cli(place, "registry", "check", "prod", "--notifications", form, "--for", "distribution",
                      "--database", url, REGWARDEN_CONFIG=str(place / "regwarden.toml")).stdout  # fmt: skip
    block = printed[printed.index("notifications:\n") :]
    registry.pasted = block
    registry.start()
    live = Live(place, url, registry, configuration, is_hasty=is_hasty)
    with running_sample_registry(_source()) as source:
        live.source = source.url.removeprefix("http://")
        live.start_service()
        try:
            yield live
        finally:
            live.stop_service()


def _source() -> Content:
    content = Content()
    for seed in ("1", "2", "3"):
        content.repository("docker").add(picture(f"docker {seed}", is_oci=False), seed)
        content.repository("oci").add(picture(f"oci {seed}"), seed)
    for seed in ("1", "2"):
        content.repository("multi").add(multi_platform(seed), seed)
    return content


def _free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return int(listener.getsockname()[1])
