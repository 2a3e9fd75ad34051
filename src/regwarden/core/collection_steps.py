"""What is to be done to collect the garbage of each kind of registry, and why? The texts of the runbooks.

The facts were found by experiment with Distribution 2.8.2 and 3.1.1, and in the source of GitLab's registry.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple


class Flavour(StrEnum):
    """Which program a registry is, as far as collecting its garbage goes."""

    DISTRIBUTION_2 = "distribution-2"
    DISTRIBUTION_3 = "distribution-3"
    GITLAB = "gitlab"
    GITLAB_DATABASE = "gitlab-database"
    UNKNOWN = "unknown"


class Deployment(StrEnum):
    """How the registry's program is run."""

    PLAIN = "plain"
    COMPOSE = "compose"
    DEBIAN = "debian"
    KUBERNETES = "kubernetes"


class RunbookStep(NamedTuple):
    """One thing to do, why, and the commands for each way to run a registry; words in capitals are to be replaced."""

    title: str
    reason: str
    commands: tuple[tuple[Deployment, tuple[str, ...]], ...] = ()
    notes: tuple[str, ...] = ()


WAYS: Final = {
    Deployment.PLAIN: "A program of its own",
    Deployment.COMPOSE: "Docker Compose, the service being called registry",
    Deployment.DEBIAN: "Debian's package docker-registry",
    Deployment.KUBERNETES: "Kubernetes, in a Deployment called registry",
}

_ENDS_UNDO: Final = (
    "What a collection removes cannot be put back by anybody: from here on `plan undo` refuses what is gone."
)
_ASK_FIRST: Final = RunbookStep(
    "Make sure that nothing is to be undone any more.",
    _ENDS_UNDO,
    notes=("Other plans of the same registry lose their undo as well.",),
)
_WRITES: Final = (
    "An upload that is under way is not referenced by any manifest yet: its layers would be taken for garbage, and "
    "the push would end in a broken image."
)
_STOP: Final = RunbookStep(
    "Stop the registry, or make it read-only.",
    _WRITES,
    (
        (Deployment.PLAIN, ("Stop the process, or set storage.maintenance.readonly.enabled: true and restart it.",)),
        (Deployment.COMPOSE, ("docker compose stop registry",)),
        (Deployment.DEBIAN, ("systemctl stop docker-registry",)),
        (Deployment.KUBERNETES, ("kubectl scale deployment/registry --replicas=0",)),
    ),
    (
        "Read-only, pulls go on. In its environment: REGISTRY_STORAGE_MAINTENANCE_READONLY={enabled: true}",
        "Every process that writes to the same storage must be stopped or read-only, not only one of several.",
    ),
)
_CHECK_FREED: Final = RunbookStep(
    "Let Regwarden compare.",
    "What was freed is measured where the storage can be read (storage_path of the registry), and otherwise shown by "
    "reading a byte of blobs that should be gone.",
    ((Deployment.PLAIN, ("regwarden plan finish PLAN --collected",)),),
)


_IN_COMPOSE: Final = "docker compose run --rm --no-deps --entrypoint"
_AS_DEBIAN: Final = "runuser -u docker-registry -- docker-registry"


def _collect(program: str, *, reason: str, notes: tuple[str, ...]) -> RunbookStep:
    return RunbookStep(
        "Collect the garbage, first only on paper.",
        reason,
        (
            (
                Deployment.PLAIN,
                (f"{program} garbage-collect --dry-run CONFIG", f"{program} garbage-collect CONFIG"),
            ),
            (
                Deployment.COMPOSE,
                (
                    f"{_IN_COMPOSE} {program} registry garbage-collect --dry-run CONFIG",
                    f"{_IN_COMPOSE} {program} registry garbage-collect CONFIG",
                ),
            ),
            (
                Deployment.DEBIAN,
                (
                    f"{_AS_DEBIAN} garbage-collect --dry-run /etc/docker/registry/config.yml",
                    f"{_AS_DEBIAN} garbage-collect /etc/docker/registry/config.yml",
                ),
            ),
            (
                Deployment.KUBERNETES,
                (
                    "Run a Job with the registry's image, configuration, secrets and volume, and as its command:",
                    f"{program} garbage-collect CONFIG",
                ),
            ),
        ),
        notes,
    )


_CONFIG_NOTE: Final = "CONFIG is the registry's own configuration file, in its image usually {place}."
_NEVER_M: Final = (
    "Never with -m (--delete-untagged): in 2.x it removes every manifest that has no tag of its own, and with them the "
    "children of tagged indexes. Every multi-platform image is destroyed, and cannot be repaired."
)
_RESTART: Final = RunbookStep(
    "Start the registry again; where it was only read-only, restart it.",
    "Its cache in memory remembers content that is gone: until a restart it answers 200 for removed blobs, breaks off "
    "in the middle of them, and takes pushes of the same content without storing it. Empty a cache in Redis.",
    (
        (Deployment.PLAIN, ("Start the process, without the read-only setting.",)),
        (Deployment.COMPOSE, ("docker compose up -d --force-recreate registry",)),
        (Deployment.DEBIAN, ("systemctl restart docker-registry",)),
        (
            Deployment.KUBERNETES,
            ("kubectl scale deployment/registry --replicas=1", "kubectl rollout status deployment/registry"),
        ),
    ),
)
_COLLECT_2: Final = _collect(
    "registry",
    reason="It removes the blobs that no manifest needs any more. Manifests that were removed are removed for good.",
    notes=(
        _NEVER_M,
        "Without it, untagged manifests that Regwarden does not know of stay, and what they need stays with them.",
        _CONFIG_NOTE.format(place="/etc/docker/registry/config.yml"),
    ),
)
_COLLECT_3: Final = _collect(
    "registry",
    reason="It removes the blobs that no manifest needs any more, and the links to them in each repository.",
    notes=(
        "Leave out -m here too: children of tagged indexes stay in 3.x, but signatures without a tag would go.",
        _CONFIG_NOTE.format(place="/etc/distribution/config.yml"),
    ),
)
_GITLAB_READ_ONLY: Final = RunbookStep(
    "Find out whether the registry has a metadata database.",
    "With one it collects garbage by itself, and the collection by command is refused: then there is nothing to do but "
    "wait, about a day.",
    ((Deployment.PLAIN, ("Look for database: enabled: true in the registry's configuration.",)),),
)
_GITLAB_COLLECT: Final = RunbookStep(
    "Collect the garbage by GitLab's own command, which stops the registry and starts it again.",
    "It removes the blobs that no manifest needs any more.",
    (
        (Deployment.PLAIN, ("gitlab-ctl registry-garbage-collect",)),
        (
            Deployment.KUBERNETES,
            ("Make the registry read-only, and run in one of its pods:", "registry garbage-collect CONFIG"),
        ),
    ),
    (
        "Without -m: with it manifests go that have no tag of their own, also some that are needed.",
        "Nothing can be pushed while this runs.",
    ),
)
_GITLAB_ONLINE: Final = RunbookStep(
    "Wait. There is nothing to run.",
    "This registry collects by itself what no tag and no manifest has needed for a day (the usual setting) and refuses "
    "the collection by command. A plan can be undone for that day, whatever the plan says.",
)
_UNKNOWN_COLLECT: Final = RunbookStep(
    "Collect the garbage in the way its manual describes.",
    "What was removed frees space only then; some registries do it by themselves.",
    notes=(
        "If it is Distribution (docker-registry, registry:2, registry:3): registry garbage-collect CONFIG. " + _NEVER_M,
        "Leave out every option that removes untagged manifests, unless its manual says that children of indexes stay.",
    ),
)

STEPS: Final = {
    Flavour.DISTRIBUTION_2: (_ASK_FIRST, _STOP, _COLLECT_2, _RESTART, _CHECK_FREED),
    Flavour.DISTRIBUTION_3: (_ASK_FIRST, _STOP, _COLLECT_3, _RESTART, _CHECK_FREED),
    Flavour.GITLAB: (_ASK_FIRST, _GITLAB_READ_ONLY, _GITLAB_COLLECT, _CHECK_FREED),
    Flavour.GITLAB_DATABASE: (_ASK_FIRST, _GITLAB_ONLINE, _CHECK_FREED),
    Flavour.UNKNOWN: (_ASK_FIRST, _STOP, _UNKNOWN_COLLECT, _RESTART, _CHECK_FREED),
}
