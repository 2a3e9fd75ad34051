"""How is a whole GitLab started for a test? The application, a real registry, and what stands before it.

Nothing of pytest is needed but the means to skip where docker-registry is not installed.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from regwarden.testing.content import BuiltManifest
from tests import servers
from tests.fixtures.distribution_servers import RegistryServer, build_config
from tests.gitlab_double import keys
from tests.gitlab_double.background import Background
from tests.gitlab_double.events import Outbox, Target, build_event, build_receiver, describe_actor, describe_request
from tests.gitlab_double.facade import Facade
from tests.gitlab_double.facade_access import Bearer
from tests.gitlab_double.hosting import Host, hosting
from tests.gitlab_double.issuer import Issuer
from tests.gitlab_double.modes import MODES, Mode
from tests.gitlab_double.pushing import push, read_access_log
from tests.gitlab_double.rails import ISSUER_PATH, build_rails
from tests.gitlab_double.recording import FaultPlan, Recorded, Recording
from tests.gitlab_double.scenario import Scenario, sample
from tests.gitlab_double.storage import Storage
from tests.gitlab_double.view import View

Notify = str | tuple[str, str]
MEMORY = Path("/dev/shm")
ENOUGH_MEMORY_BYTES = 2 << 30


class GitLab:
    """A running GitLab. ``url`` is GitLab's, ``registry_url`` what clients of the registry use; no slash at the end.

    ``registry`` is the real registry's process, ``outbox`` what the double itself sends to the receivers.
    """

    def __init__(self, mode: Mode, scenario: Scenario, storage: Storage) -> None:
        self.mode = mode
        self.scenario = scenario
        self.storage = storage
        self.view = View(storage, has_database=mode == "database")
        self.recording = Recording()
        self.faults = FaultPlan()
        self.issuer = Issuer(scenario)
        self.background = Background(scenario, self.view, self.faults)
        self.url = ""
        self.registry_url = ""
        self.registry: RegistryServer
        self.outbox: Outbox
        self.facade: Facade | None = None
        self._skipped_lines = 0

    @property
    def registry_host(self) -> str:
        """``host:port`` of the registry."""
        return self.registry_url.partition("//")[2]

    @property
    def tokens(self) -> Mapping[str, str]:
        """The secrets by the tokens' names."""
        return self.scenario.secrets

    @property
    def certificate(self) -> bytes:
        """What the registry trusts, as PEM."""
        return keys.certificate_pem()

    @property
    def requests(self) -> list[Recorded]:
        """What was asked of the three parts; in mode "plain" what the registry was asked comes last."""
        if self.mode != "plain":
            return self.recording.requests
        return [*self.recording.requests, *read_access_log(self.registry.access_log()[self._skipped_lines :])]

    def forget_requests(self) -> None:
        """Begin the record anew."""
        self.recording.requests.clear()
        self._skipped_lines = len(self.registry.access_log())

    def push(self, repository: str, built: BuiltManifest, tag: str = "") -> str:
        """Push with all its children and blobs, past everything that records; returns the digest.

        Blobs of declared size are laid into the storage as files with holes.
        """
        self.scenario.ensure_repository(repository)
        return push(self.registry.url, self.storage, repository, built, tag)

    def fill_tags(self, repository: str, digest: str, names: Iterable[str], *, at: float | None = None) -> None:
        """Point thousands of tags to a manifest that is there; ``at`` is when that was (seconds since 1970)."""
        self.scenario.ensure_repository(repository)
        self.storage.write_tags(repository, digest, names, at=at)

    def tick(self) -> None:
        """One step of the background work."""
        self.background.tick()

    def rename(self, old: str, new: str) -> None:
        """Move a repository and all below its path, rows included, and tell the receivers of it."""
        self.storage.rename(old, new)
        for row in self.scenario.repositories:
            row.path = _moved(row.path, old, new)
        for project in self.scenario.projects:
            if project.path.lower() == old:
                project.former_paths.append(project.path)
                project.path = new
        kind = "name" if old.rpartition("/")[0] == new.rpartition("/")[0] else "namespace"
        target = {"repository": old, "rename": {"type": kind, "from": old, "to": new}}
        self.outbox.add(build_event("rename", target, actor={}, request={"method": "PATCH"}))

    def tell_of_tag(self, path: str, tag: str, *, actor: Mapping[str, Any], request: Mapping[str, Any]) -> None:
        """Send the event of a tag that went by its name."""
        target = {"repository": path, "tag": tag}
        self.outbox.add(build_event("delete", target, actor=actor, request=request))


@contextmanager
def running_gitlab(
    folder: Path,
    *,
    mode: Mode = "database",
    scenario: Scenario | None = None,
    notify: Sequence[Notify] = (),
    root: Path | None = None,
) -> Iterator[GitLab]:
    """Start it; everything is stopped at the end. Raises ``AssertionError`` if nobody scripted what was asked.

    ``notify`` are addresses, or pairs with the value of Authorization, that get the registry's events. ``root`` is the
    storage folder of the registry: by default one in memory, where there is enough, otherwise in ``folder``.
    """
    program = servers.require_binary("docker-registry")
    targets = [entry if isinstance(entry, tuple) else (entry, "") for entry in notify]
    with ExitStack() as stack:
        place = root or stack.enter_context(_storage_folder(folder))
        storage = Storage(place, is_watched=mode != "plain")
        gitlab = GitLab(mode, scenario if scenario is not None else sample(), storage)
        gitlab.outbox = stack.enter_context(closing(Outbox(targets)))
        host = stack.enter_context(hosting())
        gitlab.url = host.serve(
            build_rails(gitlab.scenario, gitlab.view, gitlab.recording, gitlab.faults, issuer=gitlab.issuer)
        )
        endpoints = _endpoints(host, gitlab.outbox, targets, mode)
        gitlab.registry = _build_registry(program, folder, gitlab, place, endpoints)
        stack.callback(gitlab.registry.stop)
        gitlab.registry.start()
        gitlab.registry_url = _serve_registry(gitlab, host)
        _name_addresses(gitlab)
        gitlab.forget_requests()
        yield gitlab
        unscripted = [f"{each.method} {each.path}" for each in gitlab.requests if not each.is_scripted]
        assert not unscripted, f"requests that nobody scripted: {unscripted[:10]}"


@contextmanager
def _storage_folder(folder: Path) -> Iterator[Path]:
    has_memory = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ENOUGH_MEMORY_BYTES
    place = Path(tempfile.mkdtemp(prefix="registry-", dir=MEMORY if has_memory else folder))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _endpoints(host: Host, outbox: Outbox, targets: Sequence[Target], mode: Mode) -> list[dict[str, Any]]:
    """Whom the real registry notifies: with the database one who passes on what GitLab's would send."""
    if mode == "database" and targets:
        targets = [(f"{host.serve(build_receiver(outbox))}/events", "")]
    return [{"url": url} | ({"headers": {"Authorization": [value]}} if value else {}) for url, value in targets]


def _build_registry(
    program: Path, folder: Path, gitlab: GitLab, root: Path, endpoints: Sequence[Mapping[str, Any]]
) -> RegistryServer:
    place = Path(tempfile.mkdtemp(prefix="gitlab-", dir=folder))
    bundle = place / "issuer.pem"
    bundle.write_bytes(gitlab.certificate)
    settings = gitlab.scenario.settings
    token = {
        "realm": gitlab.url + ISSUER_PATH,
        "service": settings.service,
        "issuer": settings.issuer,
        "rootcertbundle": str(bundle),
    }
    # Without the cache: the storage also changes without the server, when tags and repositories go or move.
    changed = {"auth": {"token": token}, "storage": {"cache": {"blobdescriptor": ""}}}
    return RegistryServer(program, place, build_config(place, root=root, notify=endpoints, settings=changed))


def _serve_registry(gitlab: GitLab, host: Host) -> str:
    """Put the façade before the registry, unless clients are to talk to it as it is; returns where."""
    gitlab.view.tag_deleted = lambda path, tag: gitlab.tell_of_tag(path, tag, actor={}, request={"method": "DELETE"})
    if gitlab.mode == "plain":
        return gitlab.registry.url
    gitlab.facade = Facade(
        gitlab.registry.url,
        gitlab.view,
        gitlab.scenario.settings,
        tag_deleted=_tag_teller(gitlab),
        recording=gitlab.recording,
        faults=gitlab.faults,
    )
    return host.serve(gitlab.facade.build_app())


def _tag_teller(gitlab: GitLab) -> Callable[[str, str, Bearer, web.BaseRequest], None]:
    def tell(path: str, tag: str, bearer: Bearer, request: web.BaseRequest) -> None:
        actor = describe_actor(bearer.claims)
        gitlab.tell_of_tag(path, tag, actor=actor, request=describe_request(request))

    return tell


def _name_addresses(gitlab: GitLab) -> None:
    """Let GitLab know what it is called, unless the scenario says something else."""
    usual, scenario = Scenario(), gitlab.scenario
    if scenario.external_url == usual.external_url:
        scenario.external_url = gitlab.url
    if scenario.registry_host == usual.registry_host:
        scenario.registry_host = gitlab.registry_host


def _moved(path: str, old: str, new: str) -> str:
    return new + path.removeprefix(old) if path == old or path.startswith(f"{old}/") else path


__all__ = ["MODES", "GitLab", "Mode", "running_gitlab"]
