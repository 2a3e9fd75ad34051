"""What does the sample registry answer to questions? Catalog, tag lists, manifests, blobs, referrers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from regwarden.core.oci import media_types
from regwarden.core.oci.digests import Digest
from regwarden.errors import InputError
from regwarden.testing.behaviour import Behaviour
from regwarden.testing.content import Blob, Content, RepositoryContent, StoredManifest
from regwarden.testing.images import describe
from regwarden.testing.negotiation import Question, negotiate
from regwarden.testing.notifications import Caller, Notifier, Target
from regwarden.testing.replies import (
    API_HEADERS,
    Problem,
    answer_empty,
    answer_json,
    next_link,
    page_not_found,
    query_parameters,
    refuse,
)


class Reader:
    """Answers GET and HEAD; emits pull events."""

    def __init__(self, content: Content, behaviour: Behaviour, notifier: Notifier) -> None:
        self._content = content
        self._behaviour = behaviour
        self._notifier = notifier

    def list_catalog(self, request: web.BaseRequest) -> web.Response:
        """One page of ``_catalog``; a repository may be lost at a page's end as ``registries.md`` 3.1 tells."""
        behaviour = self._behaviour
        if not behaviour.has_catalog:
            return page_not_found()
        query = query_parameters(request.rel_url.raw_query_string)
        limit = _parse_limit(query.get("n"), behaviour.catalog_page_default)
        if limit is None or limit < 0:
            if behaviour.generation > 2:
                return refuse(400, Problem("PAGINATION_NUMBER_INVALID", {"n": query.get("n")}))
            limit = behaviour.catalog_page_default
        if limit > behaviour.catalog_page_limit:
            return refuse(400, Problem("PAGINATION_NUMBER_INVALID", {"n": limit}))
        last = query.get("last", "")
        names = self._content.listed_names(behaviour.hidden_repositories)
        rest = [name for name in names if name.split("/") > last.split("/")] if last else names
        page = rest[:limit]
        has_more = len(rest) > limit > 0
        return answer_json({"repositories": page}, _link("/v2/_catalog", page, limit) if has_more else None)

    def list_tags(self, request: web.BaseRequest, name: str) -> web.Response:
        """The tag list: unordered and whole in 2.x, sorted and paged on request in 3.x."""
        repository = self._content.repositories.get(name)
        if repository is None or not repository.has_tag_list:
            return refuse(404, Problem("NAME_UNKNOWN", {"name": name}))
        tags = [tag for tag in repository.tags if f"{name}:{tag}" not in self._behaviour.hidden_tags]
        if not self._behaviour.tag_page_limit:
            # Reversed spelling: an order that is no order, as that of a directory, yet the same every time.
            return answer_json({"name": name, "tags": sorted(tags, key=lambda tag: tag[::-1]) or None})
        return self._list_tag_page(request, name, sorted(tags))

    def _list_tag_page(self, request: web.BaseRequest, name: str, tags: list[str]) -> web.Response:
        behaviour = self._behaviour
        query = query_parameters(request.rel_url.raw_query_string)
        limit = _parse_limit(query.get("n"), behaviour.tag_page_default)
        if limit is None or limit < 0:
            return refuse(400, Problem("PAGINATION_NUMBER_INVALID", {"n": query.get("n")}))
        last = query.get("last", "")
        rest = [tag for tag in tags if tag > last]
        limit = min(limit, behaviour.tag_page_limit) or len(rest) + 1
        page = rest[:limit]
        # 3.x links on even when the page ends exactly at the last tag; the next page is then null.
        links = _link(f"/v2/{name}/tags/list", page, limit) if len(rest) >= limit else None
        return answer_json({"name": name, "tags": page or None}, links)

    def answer_manifest(self, request: web.BaseRequest, name: str, reference: str, caller: Caller) -> web.Response:
        """GET or HEAD of a manifest. 304 comes before the manifest is looked at, so a dangling tag gives it too."""
        repository = self._content.repositories.get(name, RepositoryContent(name))
        try:
            digest = repository.find_digest(reference)
        except InputError:
            return refuse(500, Problem("UNKNOWN", {"DriverName": "memory"}))
        if digest is None:
            return refuse(404, Problem("MANIFEST_UNKNOWN", {"Tag": reference}))
        if _is_unchanged(request, digest):
            return answer_empty(304)
        manifest = repository.manifests.get(digest)
        if manifest is None:
            return _missing_manifest(repository, digest)
        tag = "" if ":" in reference else reference
        target = Target(name, digest, manifest.media_type, len(manifest.payload), tag)
        self._notifier.emit("pull", target, caller)
        offer = negotiate(Question(repository, manifest, tag, _accepted(request), self._behaviour.generation))
        if offer.manifest is None:
            return refuse(offer.status, offer.problem or Problem("UNKNOWN"))
        return _manifest_response(offer.manifest)

    def list_referrers(self, request: web.BaseRequest, name: str, digest_text: str) -> web.Response:
        """The referrers API of the OCI distribution specification 1.1; plain 404 where it is switched off."""
        if not self._behaviour.has_referrers_api:
            return page_not_found()
        try:
            subject = Digest.parse(digest_text)
        except InputError:
            return refuse(400, Problem("DIGEST_INVALID"))
        repository = self._content.repositories.get(name, RepositoryContent(name))
        entries = [_referrer(manifest) for manifest in repository.list_referrers(subject)]
        query = query_parameters(request.rel_url.raw_query_string)
        headers = {"Content-Type": media_types.OCI_INDEX}
        if wanted := query.get("artifactType"):
            entries = [entry for entry in entries if entry.get("artifactType") == wanted]
            headers["OCI-Filters-Applied"] = "artifactType"
        rest = [entry for entry in entries if entry["digest"] > query.get("last", "")]
        page = sorted(rest, key=lambda entry: str(entry["digest"]))
        limit = self._behaviour.referrers_page_limit
        if limit and len(page) > limit:
            page = page[:limit]
            headers |= next_link(f"/v2/{name}/referrers/{subject}", last=page[-1]["digest"], limit=limit)
        return answer_json({"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": page}, headers)

    def answer_blob(self, request: web.BaseRequest, name: str, digest: Digest, caller: Caller) -> web.StreamResponse:
        """GET (also of a range) or HEAD of a blob; every one but a miss leaves a pull event."""
        repository = self._content.repositories.get(name)
        blob = repository.blobs.get(digest) if repository is not None else None
        if blob is None:
            return refuse(404, Problem("BLOB_UNKNOWN", str(digest)))
        self._notifier.emit("pull", Target(name, digest, size_bytes=blob.size_bytes), caller)
        headers = {**API_HEADERS, "Docker-Content-Digest": str(digest), "Etag": f'"{digest}"'}
        headers["Cache-Control"] = "max-age=31536000"
        if _is_unchanged(request, digest):
            return web.Response(status=304, headers=headers)
        headers |= {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
        is_lost = digest in self._behaviour.lost_blobs
        return _blob_response(request, blob, headers, is_lost=is_lost)


class _BlobResponse(web.StreamResponse):
    """Makes the bytes while it sends them; the server sends it after it has recorded the request."""

    def __init__(self, chunks: Iterable[bytes], *, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(status=status, headers=headers)
        self._chunks = chunks

    async def write_eof(self, last: bytes = b"") -> None:
        for chunk in self._chunks:
            await self.write(chunk)
        await super().write_eof(last)


class _BrokenResponse(web.StreamResponse):
    """Announces a body and closes the connection instead."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        writer = await super().prepare(request)
        if request.transport is not None:
            request.transport.close()
        return writer


def _blob_response(
    request: web.BaseRequest, blob: Blob, headers: dict[str, str], *, is_lost: bool
) -> web.StreamResponse:
    unsatisfiable = web.Response(status=416, headers=headers | {"Content-Range": f"bytes */{blob.size_bytes}"})
    try:
        start, stop, _ = request.http_range.indices(blob.size_bytes)
    except ValueError:
        return unsatisfiable
    status = 200
    if "Range" in request.headers:
        if start >= stop:
            return unsatisfiable
        status = 206
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{blob.size_bytes}"
    headers["Content-Length"] = str(stop - start)
    if request.method == "HEAD":
        return _BlobResponse((), status=status, headers=headers)
    if is_lost:
        return _BrokenResponse(status=status, headers=headers)
    return _BlobResponse(blob.chunks(start, stop), status=status, headers=headers)


def _manifest_response(manifest: StoredManifest) -> web.Response:
    headers = {
        **API_HEADERS,
        "Content-Type": manifest.media_type,
        "Docker-Content-Digest": str(manifest.digest),
        "Etag": f'"{manifest.digest}"',
    }
    return web.Response(body=manifest.payload, headers=headers)


def _missing_manifest(repository: RepositoryContent, digest: Digest) -> web.Response:
    # Manifest links fall back to layer links, and a blob is then read as a manifest: 500 (``registries.md`` 4.2).
    if digest in repository.blobs:
        return refuse(500, Problem("UNKNOWN", {}))
    return refuse(404, Problem("MANIFEST_UNKNOWN", {"Name": repository.name, "Revision": str(digest)}))


def _referrer(manifest: StoredManifest) -> dict[str, Any]:
    document = json.loads(manifest.payload)
    entry = describe(manifest)
    artifact_type = document.get("artifactType") or document.get("config", {}).get("mediaType")
    if artifact_type:
        entry["artifactType"] = artifact_type
    if document.get("annotations"):
        entry["annotations"] = document["annotations"]
    return entry


def _link(path: str, page: Sequence[str], limit: int) -> dict[str, str] | None:
    return next_link(path, last=page[-1], limit=limit) if page else None


def _parse_limit(text: str | None, default: int) -> int | None:
    if text is None:
        return default
    try:
        return int(text)
    except ValueError:
        return None


def _is_unchanged(request: web.BaseRequest, digest: Digest) -> bool:
    return any(value in (str(digest), f'"{digest}"') for value in request.headers.getall("If-None-Match", ()))


def _accepted(request: web.BaseRequest) -> frozenset[str]:
    values = request.headers.getall("Accept", ())
    return frozenset(media_types.essence(part) for value in values for part in value.split(","))
