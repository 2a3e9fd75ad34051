"""What does the sample registry accept? Uploads, mounts, manifests, deletions: enough for a real client to push."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

from aiohttp import web

from regwarden.core.oci import media_types
from regwarden.core.oci.digests import Digest
from regwarden.core.oci.manifests import MAX_MANIFEST_BYTES, Manifest, parse_manifest
from regwarden.errors import InputError
from regwarden.testing.behaviour import Behaviour
from regwarden.testing.content import Blob, Content, RepositoryContent, StoredManifest
from regwarden.testing.notifications import Caller, Notifier, Target
from regwarden.testing.replies import Problem, answer_empty, query_parameters, refuse


@dataclass(slots=True)
class _Upload:
    repository: str
    received: bytearray = field(default_factory=bytearray)


class Writer:
    """Answers POST, PATCH, PUT and DELETE; emits push, mount and delete events."""

    def __init__(self, content: Content, behaviour: Behaviour, notifier: Notifier) -> None:
        self._content = content
        self._behaviour = behaviour
        self._notifier = notifier
        self._uploads: dict[str, _Upload] = {}

    async def start_upload(self, request: web.BaseRequest, name: str, caller: Caller) -> web.Response:
        """POST: mount if asked and possible, take a whole blob if a digest is given, else open an upload."""
        query = query_parameters(request.rel_url.raw_query_string)
        if "mount" in query:
            mounted = self._mount(request, name, query, caller)
            if mounted is not None:
                return mounted
        identifier = str(uuid.uuid4())
        self._uploads[identifier] = _Upload(name)
        if "digest" in query:
            return await self.finish_upload(request, identifier, caller)
        return _upload_answer(request, name, identifier, 0)

    async def continue_upload(self, request: web.BaseRequest, identifier: str) -> web.Response:
        """PATCH: one more piece."""
        upload = self._uploads.get(identifier)
        if upload is None:
            return refuse(404, Problem("BLOB_UPLOAD_UNKNOWN"))
        await _receive(request, upload)
        return _upload_answer(request, upload.repository, identifier, len(upload.received))

    async def finish_upload(self, request: web.BaseRequest, identifier: str, caller: Caller) -> web.Response:
        """PUT: the last piece (often empty) and the digest."""
        upload = self._uploads.get(identifier)
        if upload is None:
            return refuse(404, Problem("BLOB_UPLOAD_UNKNOWN"))
        await _receive(request, upload)
        claimed = query_parameters(request.rel_url.raw_query_string).get("digest", "")
        content = bytes(upload.received)
        digest = _find_digest(claimed)
        if digest is None or not digest.matches(content):
            return refuse(400, Problem("DIGEST_INVALID", {"Digest": claimed, "Reason": {}}))
        del self._uploads[identifier]
        self._content.repository(upload.repository).blobs[digest] = Blob(digest, len(content), content)
        self._notifier.emit("push", Target(upload.repository, digest, size_bytes=len(content)), caller)
        return _created(request, upload.repository, "blobs", digest)

    def answer_upload(self, request: web.BaseRequest, identifier: str) -> web.Response:
        """GET (how much has come) or DELETE (give up) of an open upload."""
        upload = self._uploads.get(identifier)
        if upload is None:
            return refuse(404, Problem("BLOB_UPLOAD_UNKNOWN"))
        if request.method == "DELETE":
            del self._uploads[identifier]
            return answer_empty(204)
        return _upload_answer(request, upload.repository, identifier, len(upload.received), status=204)

    async def put_manifest(self, request: web.BaseRequest, name: str, reference: str, caller: Caller) -> web.Response:
        """PUT of a manifest by tag or digest; everything it needs must be in the repository already."""
        payload = await request.content.read()
        media_type = media_types.essence(request.headers.get("Content-Type", ""))
        if media_type not in media_types.READABLE_MANIFESTS or len(payload) > MAX_MANIFEST_BYTES:
            return refuse(400, Problem("MANIFEST_INVALID", {}))
        try:
            manifest = parse_manifest(payload, media_type)
        except InputError as error:
            return refuse(400, Problem("MANIFEST_INVALID", error.message))
        if ":" in reference and reference != str(manifest.digest):
            return refuse(400, Problem("DIGEST_INVALID"))
        repository = self._content.repository(name)
        if missing := _list_missing(repository, manifest):
            return refuse(400, *(Problem("MANIFEST_BLOB_UNKNOWN", str(digest)) for digest in missing))
        tag = "" if ":" in reference else reference
        if manifest.digest in self._behaviour.unwritable_manifests:
            return _created(request, name, "manifests", manifest.digest)
        repository.put_manifest(StoredManifest(manifest.digest, media_type, payload))
        self._notifier.emit("push", Target(name, manifest.digest, media_type, len(payload), tag), caller)
        if tag:
            repository.set_tag(tag, manifest.digest)
        answer = _created(request, name, "manifests", manifest.digest)
        if manifest.subject is not None and self._behaviour.has_referrers_api:
            answer.headers["OCI-Subject"] = str(manifest.subject.digest)
        return answer

    def delete_manifest(self, name: str, reference: str, caller: Caller) -> web.Response:
        """DELETE by digest (the manifest and its tags) or, where the server can, by tag (the tag alone)."""
        if not self._behaviour.can_delete:
            return refuse(405, Problem("UNSUPPORTED"))
        repository = self._content.repositories.get(name, RepositoryContent(name))
        digest = _find_digest(reference)
        if digest is None:
            return self._delete_tag(repository, reference, caller)
        if digest not in repository.manifests:
            return refuse(404, Problem("MANIFEST_UNKNOWN"))
        if self._behaviour.keeps_children and _is_listed(repository, digest):
            return refuse(409, Problem("MANIFEST_REFERENCED"))
        tags = repository.delete_manifest(digest)
        self._notifier.emit("delete", Target(name, digest), caller)
        for tag in tags:
            self._notifier.emit("delete", Target(name, tag=tag), caller)
        return answer_empty(202)

    def _delete_tag(self, repository: RepositoryContent, tag: str, caller: Caller) -> web.Response:
        if not self._behaviour.can_delete_tag:
            return refuse(400, Problem("DIGEST_INVALID"))
        if tag not in repository.tags:
            return refuse(404, Problem("MANIFEST_UNKNOWN"))
        del repository.tags[tag]
        self._notifier.emit("delete", Target(repository.name, tag=tag), caller)
        return answer_empty(202)

    def delete_blob(self, name: str, digest: Digest, caller: Caller) -> web.Response:
        """DELETE of a blob's link in one repository, needed or not."""
        if not self._behaviour.can_delete:
            return refuse(405, Problem("UNSUPPORTED"))
        repository = self._content.repositories.get(name)
        if repository is None or repository.blobs.pop(digest, None) is None:
            return refuse(404, Problem("BLOB_UNKNOWN"))
        self._notifier.emit("delete", Target(name, digest), caller)
        return answer_empty(202)

    def _mount(self, request: web.BaseRequest, name: str, query: dict[str, str], caller: Caller) -> web.Response | None:
        source = self._content.repositories.get(query.get("from", ""))
        digest = _find_digest(query["mount"])
        blob = source.blobs.get(digest) if source is not None and digest is not None else None
        if source is None or blob is None:
            return None
        self._content.repository(name).blobs[blob.digest] = blob
        target = Target(name, blob.digest, size_bytes=blob.size_bytes, from_repository=source.name)
        self._notifier.emit("mount", target, caller)
        return _created(request, name, "blobs", blob.digest)


async def _receive(request: web.BaseRequest, upload: _Upload) -> None:
    async for chunk in request.content.iter_any():
        upload.received += chunk


def _list_missing(repository: RepositoryContent, manifest: Manifest) -> list[Digest]:
    blobs = [part.digest for part in manifest.stored_blobs() if part.digest not in repository.blobs]
    children = [part.digest for part in manifest.children if part.digest not in repository.manifests]
    return blobs + children


def _is_listed(repository: RepositoryContent, digest: Digest) -> bool:
    parents = (parse_manifest(one.payload, one.media_type) for one in repository.manifests.values())
    return any(child.digest == digest for parent in parents for child in parent.children)


def _find_digest(text: str) -> Digest | None:
    try:
        return Digest.parse(text)
    except InputError:
        return None


def _created(request: web.BaseRequest, name: str, folder: str, digest: Digest) -> web.Response:
    location = f"{request.scheme}://{request.host}/v2/{name}/{folder}/{digest}"
    return answer_empty(201, {"Location": location, "Docker-Content-Digest": str(digest)})


def _upload_answer(
    request: web.BaseRequest, name: str, identifier: str, size_bytes: int, *, status: int = 202
) -> web.Response:
    location = f"{request.scheme}://{request.host}/v2/{name}/blobs/uploads/{identifier}?_state=sample"
    headers = {"Location": location, "Docker-Upload-Uuid": identifier, "Range": f"0-{max(0, size_bytes - 1)}"}
    return answer_empty(status, headers)
