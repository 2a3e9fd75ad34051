"""How do registries write errors and pages? The envelope of the OCI specification, and links to the next page."""

from __future__ import annotations

from urllib.parse import urlencode

from aiohttp import web

MESSAGES = {
    "INVALID_QUERY_PARAMETER_TYPE": (400, "invalid query parameter type"),
    "INVALID_QUERY_PARAMETER_VALUE": (400, "invalid query parameter value"),
    "PAGINATION_NUMBER_INVALID": (400, "invalid number of results requested"),
    "UNAUTHORIZED": (401, "authentication required"),
    "PROTECTED_TAG": (401, "a tag protection rule forbids this"),
    "IMMUTABLE_TAG": (401, "the tag is immutable"),
    "PROTECTED_MANIFEST": (401, "tag protection rules forbid to delete manifests here"),
    "MANIFEST_UNKNOWN": (404, "manifest unknown"),
    "NAME_UNKNOWN": (404, "repository name not known to registry"),
    "TAG_UNKNOWN": (404, "tag unknown to registry"),
    "MANIFEST_REFERENCED": (409, "manifest referenced by a manifest list"),
    "RENAME_IN_PROGRESS": (409, "the base repository path is undergoing a rename"),
    "UNSUPPORTED": (405, "the operation is unsupported"),
}


def refuse(code: str, detail: object = None) -> web.Response:
    """An error answer; its status follows from the code."""
    status, message = MESSAGES[code]
    error = {"code": code, "message": message} | ({} if detail is None else {"detail": detail})
    return web.json_response({"errors": [error]}, status=status)


def link(path: str, relation: str, parameters: dict[str, str]) -> str:
    """One entry of a ``Link`` header, relative, its parameters sorted."""
    return f'<{path}?{urlencode(sorted(parameters.items()))}>; rel="{relation}"'
