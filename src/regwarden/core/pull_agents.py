"""Which kind of client calls itself like this? What is known of the user agents that registries see.

What docker, containerd, CRI-O and skopeo send is known from logs of registries, what Harbor, regclient and Buildah send
from their sources; the others go by the names of their programs. A mistake must not make use look like no use: a client
that is not known is ``other``, which counts as use, and only *product names* are looked at, never what stands in
comments or names a kernel.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from regwarden.errors import InputError


class PullClass(StrEnum):
    """Who pulls."""

    WORKLOAD = "workload"  # runs it: container runtimes, orchestrators, admission controllers
    CI = "ci"
    HUMAN = "human"
    SCANNER = "scanner"
    REPLICATOR = "replicator"  # copies it elsewhere: replication, mirrors, proxies
    CRAWLER = "crawler"  # only looks: inventories, update checkers, pages that show a registry
    OTHER = "other"


# Whole product names, or NAME/VERSION where the version is a part of the name.
_PRODUCTS: Final[Mapping[PullClass, str]] = {
    PullClass.WORKLOAD: (
        "containerd cri-o crio kubelet cri-dockerd k3s rke2 stargz-snapshotter soci-snapshotter nydusd"
        " nydus-snapshotter kyverno connaisseur ratify gatekeeper policy-controller portieris flux"
        " source-controller kapp-controller argocd argo-cd nomad cadvisor firecracker-containerd bottlerocket openshift"
    ),
    PullClass.CI: (
        "buildkit buildkitd kaniko buildah gitlab-runner gitlab-runner-helper jenkins tekton concourse drone"
        " woodpecker earthly dagger werf jib ko apko melange lifecycle pack imgutil makisu img bazel rules_oci"
        " rules_img rules_docker cosign notation openshift-builder packer github-actions"
        " act_runner teamcity bamboo circleci azure-pipelines"
    ),
    PullClass.HUMAN: (
        "docker-client compose docker-compose buildx nerdctl podman libpod regclient/regctl crane gcrane oras"
        " singularity apptainer dive lazydocker"
    ),
    PullClass.SCANNER: "docker-scout docker-cli-scout black-duck nexus-iq sonatype-iq openscap dependency-track",
    PullClass.REPLICATOR: (
        "harbor-registry-client harbor-replication-service regclient/regsync regclient/regbot regsync zot kraken"
        " dragonfly dfdaemon spegel nexus artifactory gitlab-geo image-syncer oc-mirror imgpkg hauler zarf"
    ),
    PullClass.CRAWLER: (
        "regwarden mozilla docker-registry-ui watchtower diun renovate dependabot argocd-image-updater keel wud"
        " whats-up-docker deckschrubber registry-cli image-reflector-controller newreleases portainer googlebot"
    ),
}
# As a word within the name of the first product: trivy-operator, harbor-scanner-aqua, JFrog-Xray.
_WORDS: Final[Mapping[PullClass, str]] = {
    PullClass.SCANNER: (
        "trivy grype syft stereoscope clair claircore snyk anchore xray twistlock prismacloud aquasec scanner"
        " sysdig qualys tenable nessus neuvector lacework stackrox rhacs deepfence threatmapper dockle kubescape"
        " blackduck whitesource"
    ),
    PullClass.REPLICATOR: "replication replicator mirror mirroring",
    PullClass.CI: "ci jenkins runner buildpack buildpacks pipeline",
}
_CI_ACTORS: Final = frozenset({"gitlab-ci-token", "x-access-token", "serviceaccount"})
_CI_ACTOR_WORDS: Final = frozenset({"ci", "cicd", "jenkins", "runner", "runners", "pipeline", "builder", "buildbot"})
_SCANNER_ACTOR_WORDS: Final = frozenset({"trivy", "grype", "snyk", "scanner", "xray", "twistlock", "anchore"})
_REPLICATOR_ACTOR_WORDS: Final = frozenset({"replication", "replicator"})
# Harbor's robot accounts: robot$NAME, robot$PROJECT+NAME.
_ROBOT: Final = "robot$"

# They say where the client runs, not what it is; a kernel may have any name.
_SURROUNDINGS: Final = frozenset({"go", "git-commit", "kernel", "os", "arch", "linux", "darwin", "windows"})
_UPSTREAM: Final = "upstreamclient("
_MAX_PRODUCTS: Final = 8
_COMMENT: Final = re.compile(r"\([^()]*\)?")
_WORD: Final = re.compile(r"[a-z0-9]+")

_NAMES: Final = frozenset(map(str, PullClass))
_BY_PRODUCT: Final = {name: kind for kind, names in _PRODUCTS.items() for name in names.split()}
_BY_WORD: Final = {name: kind for kind, names in _WORDS.items() for name in names.split()}


def check_class(name: str) -> str:
    """The name, if it is that of a class of pulls; otherwise raises ``InputError`` (code ``bad-pull-class``)."""
    if name not in _NAMES:
        hint = f"Known are: {', '.join(PullClass)}."
        raise InputError(f"{name[:80]!r} is not a class of pulls", hint=hint, code="bad-pull-class")
    return name


def class_of_client(user_agent: str, actor: str = "") -> PullClass:
    """The class of a client by what it calls itself and who it logged in as (``""``: anonymous); never raises.

    The user's name decides only where the client is one that people and programs use alike.
    """
    found = _class_of_agent(user_agent.lower())
    if actor and found in (PullClass.OTHER, PullClass.HUMAN):
        return _class_of_actor(actor.lower(), found)
    return found


def _class_of_agent(agent: str) -> PullClass:
    products = _products(agent.partition(_UPSTREAM)[0])
    if not products:
        return PullClass.OTHER
    if products[0][0] == "docker":
        return _class_of_docker(agent, products[0][1])
    for position, (name, version) in enumerate(products):
        found = _BY_PRODUCT.get(f"{name}/{version}") or _BY_PRODUCT.get(name)
        if found is None and position == 0:
            found = next((_BY_WORD[word] for word in _WORD.findall(name) if word in _BY_WORD), None)
        if found is not None:
            return found
    return PullClass.OTHER


def _class_of_docker(agent: str, version: str) -> PullClass:
    """A Docker daemon, and on whose behalf: ``docker/24.0.7 … UpstreamClient(Docker-Client/24.0.7 …)``.

    Without one it is the daemon itself (swarm); programs that drive it (kubelet, Nomad, ECS) name their own library.
    """
    if not version[:1].isdigit():
        return PullClass.OTHER
    _, marker, upstream = agent.partition(_UPSTREAM)
    clients = _products(upstream) if marker else []
    return _BY_PRODUCT.get(clients[0][0], PullClass.WORKLOAD) if clients else PullClass.WORKLOAD


def _products(agent: str) -> list[tuple[str, str]]:
    """Names and versions, in order, without comments and without what only says where the client runs."""
    parts = _COMMENT.sub(" ", agent).split(maxsplit=_MAX_PRODUCTS)[:_MAX_PRODUCTS]
    named = (part.partition("/") for part in parts)
    return [(name, version.rstrip(")")) for name, _, version in named if name and name not in _SURROUNDINGS]


def _class_of_actor(actor: str, found: PullClass) -> PullClass:
    words = set(_WORD.findall(actor))
    if found is PullClass.OTHER and words & _SCANNER_ACTOR_WORDS:
        return PullClass.SCANNER
    if found is PullClass.OTHER and words & _REPLICATOR_ACTOR_WORDS:
        return PullClass.REPLICATOR
    is_ci = actor in _CI_ACTORS or actor.startswith(_ROBOT) or words & _CI_ACTOR_WORDS
    return PullClass.CI if is_ci else found
