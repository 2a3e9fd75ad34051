"""Which addresses belong to a row of the inventory?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from regwarden.core.ages import AgeUnit
from regwarden.library_rows import Row, fields_of
from regwarden.web.api.documents import linked, path_to, with_query

Embedded = Mapping[str, Any] | None

# They differ at every look, so that no answer would ever be unchanged (304); `created_at` says the same.
_AGES: Final = frozenset(f"age_{unit}" for unit in AgeUnit)


def registry_path(registry: str) -> str:
    """The address of a registry."""
    return path_to("registries", registry)


def repository_path(registry: str, repository: str) -> str:
    """The address of a repository."""
    return path_to("registries", registry, "repositories", repository)


def tag_path(registry: str, repository: str, tag: str) -> str:
    """The address of a tag."""
    return f"{repository_path(registry, repository)}/tags/{path_to(tag).rpartition('/')[2]}"


def registry_entry(row: Row, embedded: Embedded = None, **more: str) -> dict[str, Any]:
    """A registry with its links."""
    name = fields_of(row)["registry"]
    here = registry_path(name)
    links = {
        "self": here,
        "repositories": with_query(path_to("repositories"), [("registry", name)]),
        "tags": with_query(path_to("tags"), [("registry", name)]),
        "growth": f"{here}/growth",
        "crawls": with_query(path_to("crawls"), [("registry", name)]),
        **more,
    }
    return linked(_steady(row), links, embedded)


def repository_entry(row: Row, embedded: Embedded = None, **more: str) -> dict[str, Any]:
    """A repository with its links."""
    fields = fields_of(row)
    here = repository_path(fields["registry"], fields["repository"])
    links = {"self": here, "registry": registry_path(fields["registry"]), "tags": f"{here}/tags", **more}
    return linked(_steady(fields), links, embedded)


def tag_entry(row: Row, embedded: Embedded = None) -> dict[str, Any]:
    """A tag with its links."""
    fields = fields_of(row)
    here = tag_path(fields["registry"], fields["repository"], fields["tag"])
    repository = repository_path(fields["registry"], fields["repository"])
    links = {"self": here, "repository": repository, "history": f"{here}/history"}
    if fields["digest"] is not None:
        links["manifest"] = path_to("manifests", fields["digest"])
    return linked(_steady(fields), links, embedded)


def content_entry(row: Row) -> dict[str, Any]:
    """A manifest or blob in a repository, with its links; what it is, and who needs it, is told of the digest."""
    fields = fields_of(row)
    here = path_to("manifests", fields["digest"])
    return linked(
        _steady(fields), {"self": here, "repository": repository_path(fields["registry"], fields["repository"])}
    )


def _steady(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in _AGES}
