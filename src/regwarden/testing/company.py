"""What does the registry of a believable company look like? The content that ``make demo`` crawls.

Larkspur Books, a bookshop with a web shop: shared base images, team services in both formats and for several
platforms, promoted copies, signatures, build caches, leftovers of branches, and a few things that are broken.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from regwarden.core.oci.digests import Digest
from regwarden.testing.company_services import BASES, KIB, MIB, SERVICES, Base, Service
from regwarden.testing.content import BuiltManifest, Content, RepositoryContent
from regwarden.testing.images import (
    Layer,
    attestation,
    build_cache,
    cosign_signature,
    foreign_layer,
    helm_chart,
    image,
    image_config,
    index,
    layer,
    referrers_tag,
    sbom,
    signature_tag,
)

_TICKETS: Final = ("new-checkout", "fix-timeout", "upgrade-deps", "dark-mode", "retry-queue", "tracing", "gdpr-export")


@dataclass(frozen=True, slots=True)
class _BaseRelease:
    built_at: datetime
    layers_by_platform: dict[str, tuple[Layer, ...]]


@dataclass(frozen=True, slots=True)
class _Release:
    name: str
    built_at: datetime
    built: BuiltManifest


@dataclass(slots=True)
class _Builder:
    now: datetime
    seed: int
    content: Content = field(default_factory=Content)
    bases: dict[str, list[_BaseRelease]] = field(default_factory=dict)

    def draw(self, key: str, low: int, high: int) -> int:
        """A number from ``low`` to ``high`` that depends on nothing but the seed and ``key``."""
        number = int.from_bytes(hashlib.sha256(f"{self.seed} {key}".encode()).digest()[:8], "big")
        return low + number % (high - low + 1)

    def seeded_layer(self, key: str, size_bytes: int) -> Layer:
        """A layer whose size varies a little around ``size_bytes``."""
        return layer(f"{self.seed} {key}", size_bytes * self.draw(f"size {key}", 90, 110) // 100 + 137)


def company_content(now: datetime, seed: int = 7) -> Content:
    """The company's registry as of ``now`` (aware); the same arguments always give the same bytes."""
    builder = _Builder(now, seed)
    for base in BASES:
        _add_base(builder, base)
    for service in SERVICES:
        _add_service(builder, service)
    _add_charts(builder)
    _add_legacy(builder)
    _add_broken(builder)
    builder.content.repository("sandbox/empty")
    return builder.content


def _add_base(builder: _Builder, base: Base) -> None:
    repository = builder.content.repository(base.name)
    releases: list[_BaseRelease] = []
    for number in range(base.release_count):
        built_at = builder.now - timedelta(days=45 * (base.release_count - number) - 20)
        own: dict[str, tuple[Layer, ...]] = {
            platform: (builder.seeded_layer(f"{base.name} {number} {platform}", base.size_bytes),)
            for platform in ("linux/amd64", "linux/arm64")
        }
        if base.parent:
            below = _latest_base(builder, base.parent, built_at).layers_by_platform
            own = {platform: below[platform] + layers for platform, layers in own.items()}
        releases.append(_BaseRelease(built_at, own))
        labels = {"org.opencontainers.image.vendor": "Larkspur Books", "org.opencontainers.image.title": base.name}
        children = [
            image(layers, image_config(platform, created=built_at, labels=labels)) for platform, layers in own.items()
        ]
        release = f"{base.major}.{number}"
        digest = repository.add(index(children), f"{release}-{built_at:%Y%m%d}", release)
    for tag in (base.major, "latest"):
        repository.set_tag(tag, digest)
    builder.bases[base.name] = releases


def _latest_base(builder: _Builder, name: str, moment: datetime) -> _BaseRelease:
    releases = builder.bases[name]
    return next((release for release in reversed(releases) if release.built_at <= moment), releases[0])


def _add_service(builder: _Builder, service: Service) -> None:
    repository = builder.content.repository(service.name)
    releases = [_build_release(builder, service, number) for number in range(service.release_count)]
    for release in releases:
        digest = repository.add(release.built, release.name)
        if service.is_signed:
            repository.add(cosign_signature(digest, service.name), signature_tag(digest))
        if service.has_sbom:
            _attach_sbom(repository, release.built)
    _add_aliases(repository, releases)
    _add_branches(builder, service, repository)
    if service.is_promoted:
        _promote(builder, service, releases)
    if service.has_cache:
        _add_cache(builder, service)


def _add_aliases(repository: RepositoryContent, releases: list[_Release]) -> None:
    newest, stable = releases[-1], releases[max(0, len(releases) - 3)]
    major, minor, _ = newest.name.split(".")
    for tag in ("latest", major, f"{major}.{minor}"):
        repository.set_tag(tag, newest.built.digest)
    repository.set_tag("stable", stable.built.digest)


def _build_release(builder: _Builder, service: Service, number: int) -> _Release:
    key = f"{service.name} release {number}"
    age = timedelta(
        days=service.pace_days * (service.release_count - number) - builder.draw(key, 0, service.pace_days - 1)
    )
    built_at = builder.now - age
    name = f"{1 + number // 9}.{number % 9 // 3}.{number % 3}"
    return _Release(name, built_at, _build(builder, service, key=key, revision=number // 4, built_at=built_at))


def _build(builder: _Builder, service: Service, *, key: str, revision: int, built_at: datetime) -> BuiltManifest:
    """One build: base, dependencies (they change rarely), the application, a small configuration layer."""
    labels = {
        "org.opencontainers.image.title": service.name,
        "org.opencontainers.image.revision": Digest.of(f"{builder.seed} {key}".encode()).hex[:40],
        "com.larkspur.team": service.name.partition("/")[0],
    }
    children: list[BuiltManifest] = []
    for platform in service.platforms:
        layers = (
            *_latest_base(builder, service.base, built_at).layers_by_platform[platform],
            builder.seeded_layer(f"{service.name} dependencies {revision} {platform}", service.dependencies_bytes),
            builder.seeded_layer(f"{key} application {platform}", service.application_bytes),
            builder.seeded_layer(f"{key} settings {platform}", 3 * KIB),
        )
        config = image_config(platform, created=built_at, labels=labels)
        children.append(image(layers, config, oci=service.is_oci))
    if len(children) == 1:
        return children[0]
    if service.has_attestations:
        children += [attestation(child) for child in children]
    return index(children, oci=service.is_oci)


def _attach_sbom(repository: RepositoryContent, subject: BuiltManifest) -> None:
    bill = sbom(subject)
    repository.add(index([bill]), referrers_tag(subject.digest))


def _add_branches(builder: _Builder, service: Service, repository: RepositoryContent) -> None:
    for number in range(service.branch_count):
        key = f"{service.name} branch {number}"
        built_at = builder.now - timedelta(days=builder.draw(key, 5, 700), hours=builder.draw(f"{key} hour", 0, 23))
        ticket = _TICKETS[builder.draw(f"{key} ticket", 0, len(_TICKETS) - 1)]
        built = _build(builder, service, key=key, revision=builder.draw(key, 0, 3), built_at=built_at)
        repository.add(built, f"feature-{ticket}-{builder.draw(f'{key} number', 100, 999)}")
    for number in range(service.pull_request_count):
        key = f"{service.name} pull request {number}"
        built_at = builder.now - timedelta(days=3 + 4 * number, hours=builder.draw(key, 0, 23))
        built = _build(builder, service, key=key, revision=service.release_count // 4, built_at=built_at)
        repository.add(built, f"pr-{1480 - 7 * number - builder.draw(key, 0, 6)}")


def _promote(builder: _Builder, service: Service, releases: list[_Release]) -> None:
    """The same digests under ``staging/`` and, a little later, ``prod/``."""
    for stage, chosen in (("staging", releases[-6:]), ("prod", releases[-7:-1:2])):
        repository = builder.content.repository(f"{stage}/{service.name}")
        for release in chosen:
            repository.add(release.built, release.name)
        repository.set_tag("current", chosen[-1].built.digest)
        if len(chosen) > 1:
            repository.set_tag("previous", chosen[-2].built.digest)


def _add_cache(builder: _Builder, service: Service) -> None:
    repository = builder.content.repository(f"cache/{service.name.replace('/', '-')}")
    for number, branch in enumerate(("main", "develop", "renovate")):
        key = f"{service.name} cache {branch}"
        sizes = (180 * MIB, 60 * MIB, 9 * MIB)
        layers = [builder.seeded_layer(f"{key} {part}", size_bytes) for part, size_bytes in enumerate(sizes)]
        repository.add(build_cache(layers, as_index=number != 1), f"buildcache-{branch}")


def _add_charts(builder: _Builder) -> None:
    for name in ("shop", "payments", "platform"):
        repository = builder.content.repository(f"charts/{name}")
        for number in range(5):
            release = f"0.{number + 3}.{builder.draw(f'chart {name} {number}', 0, 4)}"
            repository.add(helm_chart(name, release), release)


def _add_legacy(builder: _Builder) -> None:
    """Windows images in Docker format whose base stays at the vendor, pushed years ago."""
    repository = builder.content.repository("legacy/erp-bridge")
    vendor = foreign_layer("windows server", 1_700 * MIB, "https://vendor.example.com/windows/server.tar.gz")
    for number in range(3):
        built_at = builder.now - timedelta(days=1_500 - 120 * number)
        own = builder.seeded_layer(f"erp {number}", 85 * MIB)
        config = image_config("windows/amd64", created=built_at)
        repository.add(image([vendor, own], config, oci=False), f"2021.{number + 1}")


def _add_broken(builder: _Builder) -> None:
    """An index whose ``arm64`` child was deleted, and a signature that outlived its image."""
    repository = builder.content.repository("tools/release-bot")
    built_at = builder.now - timedelta(days=210)
    children = [
        image([builder.seeded_layer(f"release-bot {platform}", 24 * MIB)], image_config(platform, created=built_at))
        for platform in ("linux/amd64", "linux/arm64")
    ]
    repository.add(index(children), "0.9.0", "latest", omit=[_arm64_digest(children)])
    lost = Digest.of(b"an image that was deleted")
    repository.add(cosign_signature(lost, "tools/release-bot"), signature_tag(lost))


def _arm64_digest(children: Iterable[BuiltManifest]) -> Digest:
    return next(child.digest for child in children if child.platform and child.platform.architecture == "arm64")
