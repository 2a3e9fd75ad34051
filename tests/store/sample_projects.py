"""Projects for the small random inventories: columns of some repositories, and what lists should show of them."""

from __future__ import annotations

from typing import Any

RawRow = dict[str, Any]

ACCESS = ('{"mode":"instance","can_untag":true,"can_delete_repositories":true}', "{}")
"""Of each registry."""

_PATHS = ("team/app", "team/Web", "ann/thing")


def of_repository(number: int, time: int) -> RawRow:
    """What GitLab says of a repository; nothing of every third one."""
    names = "project project_group owner project_remote_id access_level remote_id remote_status remote_created_at"
    if number % 3 == 0:
        return dict.fromkeys(f"{names} remote_bytes remote_precision".split())
    path = _PATHS[number % 3]
    return {
        "project": path,
        "project_group": path.partition("/")[0],
        "owner": (None, "mia", "ann,mia")[number % 3],
        "project_remote_id": 100 + number,
        "access_level": (None, 30, 40, 60)[number % 4],
        "remote_id": None if number % 5 == 0 else 7 * number,
        "remote_status": ("", "delete_scheduled")[number % 2],
        "remote_created_at": time,
        "remote_bytes": (None, 0, 4096)[number % 3],
        "remote_precision": ("default", "untagged")[number % 2],
    }


def of_tag(number: int, time: int) -> RawRow:
    """What is known of a tag by rules and by the registry's listing."""
    return {"is_protected": (None, 0, 1)[number % 3], "published_at": (None, time)[number % 2]}


def shown_repository(row: RawRow, place: RawRow) -> RawRow:
    """The fields of a repository of the registry ``place``."""
    path = _api_path(row)
    may_delete = place["id"] == 1 and (row["access_level"] or 0) >= 40
    return {
        **_shown_project(row),
        "location": f"{place[' host']}/{row['name']}",
        "gitlab_id": row["remote_id"],
        "gitlab_status": row["remote_status"],
        "gitlab_created_at": row["remote_created_at"],
        "gitlab_bytes": row["remote_bytes"],
        "gitlab_precision": row["remote_precision"],
        "tags_path": path and f"{path}/tags",
        "destroy_path": path if may_delete else None,
    }


def shown_tag(row: RawRow, repository: RawRow) -> RawRow:
    """The fields of a tag of a repository."""
    path = _api_path(repository)
    may_untag = repository["registry_id"] == 1 and (repository["access_level"] or 0) >= 30 and row["is_protected"] != 1
    return {
        **_shown_project(repository),
        "destroy_path": f"{path}/tags/{row['name']}" if path and may_untag else None,
    }


def _shown_project(row: RawRow) -> RawRow:
    return {"project": row["project"], "group": row["project_group"], "owner": row["owner"]}


def _api_path(row: RawRow) -> str | None:
    if None in (row["project_remote_id"], row["remote_id"]):
        return None
    return f"/api/v4/projects/{row['project_remote_id']}/registry/repositories/{row['remote_id']}"
