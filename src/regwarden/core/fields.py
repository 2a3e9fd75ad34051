"""Which fields each noun has: what can be shown, compared in a condition and sorted by, everywhere the same."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from regwarden.core.ages import AgeUnit
from regwarden.errors import InputError

Noun: TypeAlias = Literal["registry", "repository", "tag", "manifest", "blob"]


class FieldType(StrEnum):
    """How a field's values are written and compared."""

    TEXT = "text"
    BYTES = "bytes"
    COUNT = "count"
    TIME = "time"  # aware UTC
    DIGEST = "digest"
    BOOL = "bool"


@dataclass(frozen=True, slots=True)
class Field:
    """One field: ``title`` heads its column, ``help`` is one sentence for people.

    ``is_graph`` marks figures of the last materialised snapshot: they are as old as ``sized_at`` of the registry.
    ``is_extra`` marks what is shown only where it is named: the same as another field in other words.
    """

    name: str
    type: FieldType
    title: str
    help: str
    is_graph: bool = False
    is_extra: bool = False


def _all_fields() -> dict[str, Field]:
    text, size, count, time, digest, boolean = FieldType
    rows = (
        ("registry", text, "Registry", "Name of the registry."),
        ("url", text, "URL", "Address of the registry."),
        ("kind", text, "Kind", "Kind of the registry, for example distribution."),
        ("repository", text, "Repository", "Name of the repository, without the registry."),
        ("tag", text, "Tag", "Name of the tag."),
        ("digest", digest, "Digest", "Digest of the manifest or blob."),
        ("media_type", text, "Media type", "Media type of the manifest or blob."),
        ("artifact_type", text, "Artifact type", "Artifact type; empty for images."),
        ("config_media_type", text, "Config type", "Media type of the config; empty for an index."),
        ("platform", text, "Platform", "os/architecture[/variant]; those of an index joined by commas."),
        ("platforms", text, "Platforms", "Every os/architecture[/variant] it has, joined by commas."),
        ("location", text, "Location", "HOST/REPOSITORY[:TAG], as a container runtime wants it."),
        ("revision", text, "Revision", "Hexadecimal digest of the config, without the algorithm."),
        ("short_revision", text, "Revision", "The first nine digits of the revision."),
        ("subject", digest, "Subject", "Digest of the manifest that this one refers to."),
        ("tags", text, "Tags", "Tags that point to it, joined by commas."),
        ("state", text, "State", "What the last reading found."),
        ("crawl_state", text, "Crawl", "How the last crawl ended: complete, partial or failed."),
        ("repository_count", count, "Repositories", "Number of repositories."),
        ("tag_count", count, "Tags", "Number of tags."),
        ("manifest_count", count, "Manifests", "Number of manifests, untagged ones included where known."),
        ("layer_count", count, "Layers", "Number of layers."),
        ("problem_count", count, "Problems", "Number of problems that the last crawl met."),
        *((f"age_{unit}", count, "Age", f"Whole {unit} since it was created, negative before.") for unit in AgeUnit),
        ("size_bytes", size, "Size", "Size of the document or blob itself."),
        ("logical_bytes", size, "Logical", "Everything it consists of, each digest once; summed over tags."),
        ("stored_bytes", size, "Stored", "Distinct content that its tags reach."),
        ("stored_all_bytes", size, "Stored, all", "Distinct content with what is known to be untagged."),
        ("exclusive_bytes", size, "Exclusive", "The part of stored that nothing else in the registry needs."),
        ("shared_bytes", size, "Shared", "The part of stored that something else in the registry needs too."),
        ("attributed_bytes", size, "Attributed", "Fair share: each blob split among the repositories that hold it."),
        ("layer_bytes", size, "Layers", "Distinct layers of each tag, summed over tags (gitlab-registry-usage: size)."),
        ("disk_bytes", size, "On disk", "Layers counted at their first tag only (gitlab-registry-usage: disk_size)."),
        ("total_size", size, "Total size", "Layers as listed, repeated ones repeated (GitLab's total_size)."),
        ("crawled_at", time, "Crawled", "When the last crawl ended."),
        ("next_crawl_at", time, "Next crawl", "When the service is to crawl it; null for never and without settings."),
        ("sized_at", time, "Sized", "When the snapshot figures were computed."),
        ("created_at", time, "Created", "When the image was built, by its config; an index takes its newest child's."),
        ("newest_created_at", time, "Newest", "When the newest of its images was built."),
        ("first_seen_at", time, "First seen", "When it was first observed."),
        ("seen_at", time, "Seen", "When it was last observed."),
        ("tagged_at", time, "Tagged", "Since when the tag points there, at the latest."),
        ("pushed_at", time, "Pushed", "When it was pushed to the repository; unknown without events."),
        ("pulled_at", time, "Pulled", "When it was last used: fetched or checked by a class that counts as use."),
        ("fetched_at", time, "Fetched", "When it was last downloaded (GET), whoever asked."),
        ("checked_at", time, "Checked", "When it was last asked for without downloading (HEAD), whoever asked."),
        ("pulls_known_since", time, "Known since", "Since when pulls are known; null before the first notification."),
        ("verified_at", time, "Verified", "When its existence was last proven."),
        ("untagged_since", time, "Untagged", "Since when no tag points to it; unknown for one that is tagged."),
        ("deleted_at", time, "Deleted", "When it was found to be gone."),
        ("is_index", boolean, "Index", "Whether it lists manifests (multi-arch) rather than layers."),
        ("is_orphaned", boolean, "Orphaned", "Whether no manifest of the repository names it; unknown if unread."),
    )
    return {name: Field(name, kind, title, sentence) for name, kind, title, sentence in (*rows, *_project_rows())}


def _project_rows() -> tuple[tuple[str, FieldType, str, str], ...]:
    """What a registry with projects, a GitLab, tells beside."""
    text, size, count, time, _, boolean = FieldType
    return (
        ("project", text, "Project", "Path of the project that it belongs to, where the registry has projects."),
        ("group", text, "Group", "Full path of the project's group, or of the user whose project it is."),
        ("owner", text, "Owner", "User names of the project's owners, joined by commas."),
        ("gitlab_id", count, "GitLab's id", "GitLab's number of the repository."),
        ("gitlab_status", text, "GitLab's status", "GitLab's word while it is being deleted; empty: it is not."),
        ("gitlab_created_at", time, "GitLab's created", "When the repository was created, by GitLab."),
        ("gitlab_bytes", size, "GitLab's size", "GitLab's figure: distinct layers that tags reach, compressed."),
        ("gitlab_precision", text, "Precision", "What that figure counts: default, or untagged for every layer."),
        ("tags_path", text, "Tags path", "Path of its tags in GitLab's API, without the host."),
        ("destroy_path", text, "Destroy path", "Path in GitLab's API that deletes it; null where we may not."),
        ("published_at", time, "Published", "Since when the tag points there, by the registry's own listing."),
        ("is_protected", boolean, "Protected", "Whether a rule of GitLab protects it; unknown if rules were not read."),
    )


_ALL: Final = _all_fields()
_OTHER_AGES: Final = "age_seconds age_minutes age_hours age_weeks"
_PLACE: Final = "project group owner"


def _choose(names: str, *, graph: str = "", state: str = "", extra: str = "") -> Mapping[str, Field]:
    """The named fields in this order, then the ``extra`` ones.

    ``graph`` names those of the snapshot, ``state`` explains the state's values.
    """
    chosen = {name: _ALL[name] for name in names.split()}
    chosen |= {name: replace(_ALL[name], is_extra=True) for name in extra.split()}
    chosen |= {name: replace(_ALL[name], is_graph=True) for name in graph.split()}
    if state:
        chosen["state"] = replace(_ALL["state"], help=state)
    return MappingProxyType(chosen)


REGISTRY_FIELDS: Final = _choose(
    "registry url kind repository_count tag_count manifest_count logical_bytes stored_bytes stored_all_bytes"
    " layer_bytes disk_bytes crawled_at crawl_state next_crawl_at sized_at problem_count"
)
REPOSITORY_FIELDS: Final = _choose(
    "registry repository tag_count manifest_count logical_bytes stored_bytes stored_all_bytes exclusive_bytes"
    " shared_bytes attributed_bytes layer_bytes disk_bytes state problem_count first_seen_at seen_at"
    " newest_created_at pulled_at pulls_known_since",
    extra=f"{_OTHER_AGES} age_days {_PLACE} location gitlab_id gitlab_status gitlab_created_at gitlab_bytes"
    " gitlab_precision tags_path destroy_path",
    graph="exclusive_bytes shared_bytes attributed_bytes disk_bytes",
    state="What the last crawl read: complete, partial, denied, failed or untagged.",
)
TAG_FIELDS: Final = _choose(
    "registry repository tag digest media_type artifact_type platforms logical_bytes stored_bytes exclusive_bytes"
    " shared_bytes layer_bytes disk_bytes revision short_revision total_size location created_at age_days"
    " first_seen_at tagged_at pushed_at pulled_at fetched_at checked_at pulls_known_since seen_at verified_at state"
    " is_index layer_count",
    extra=f"{_OTHER_AGES} {_PLACE} published_at is_protected destroy_path",
    graph="exclusive_bytes shared_bytes disk_bytes",
    state="ok, dangling (its manifest is missing) or unreadable.",
)
MANIFEST_FIELDS: Final = _choose(
    "registry repository digest media_type artifact_type config_media_type platform size_bytes logical_bytes"
    " exclusive_bytes total_size revision short_revision subject created_at tags tag_count first_seen_at pushed_at"
    " pulled_at fetched_at checked_at pulls_known_since untagged_since is_index layer_count",
    extra=f"{_OTHER_AGES} age_days",
    graph="exclusive_bytes",
)
BLOB_FIELDS: Final = _choose(
    "registry repository digest media_type size_bytes state is_orphaned first_seen_at pushed_at pulled_at verified_at"
    " deleted_at",
    state="present, missing or unverified.",
)
FIELDS: Final[Mapping[Noun, Mapping[str, Field]]] = MappingProxyType(
    {
        "registry": REGISTRY_FIELDS,
        "repository": REPOSITORY_FIELDS,
        "tag": TAG_FIELDS,
        "manifest": MANIFEST_FIELDS,
        "blob": BLOB_FIELDS,
    }
)

# The first target that the noun has is meant.
ALIASES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "size": ("logical_bytes", "size_bytes"),
        "created": ("created_at", "newest_created_at"),
        "age": ("created_at", "newest_created_at"),
        "pushed": ("pushed_at",),
        "pulled": ("pulled_at",),
        "fetched": ("fetched_at",),
        "checked": ("checked_at",),
        "tagged": ("tagged_at",),
        "seen": ("seen_at",),
        "crawled": ("crawled_at",),
        "reference": ("location",),
        "disk_size": ("disk_bytes",),
        "id": ("gitlab_id",),
        "path": ("repository",),
    }
)


def usual_fields(noun: Noun) -> tuple[str, ...]:
    """The names of the fields that a list without a choice of columns shows."""
    return tuple(name for name, field in FIELDS[noun].items() if not field.is_extra)


def resolve_field(noun: Noun, text: str) -> Field:
    """The field that ``text`` names: its name or an alias, hyphens allowed for underscores, in any case.

    ``name`` is the noun's own name. Raises ``InputError`` (code ``unknown-field``) with the nearest name.
    """
    fields = FIELDS[noun]
    name = text.strip().lower().replace("-", "_")
    targets = (noun,) if name == "name" else (name, *ALIASES.get(name, ()))
    for target in targets:
        if target in fields:
            return fields[target]
    usable = [alias for alias, names in ALIASES.items() if any(target in fields for target in names)]
    near = difflib.get_close_matches(name[:80], [*fields, *usable], n=1)
    hint = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(fields)}."
    raise InputError(f"{text[:80]!r} is not a field of a {noun}", hint=hint, code="unknown-field")
