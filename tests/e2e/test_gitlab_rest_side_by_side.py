"""gitlab-registry-usage-rest and our interface on the same registry and directory: every response beside the other.

Ours is configured by importing the predecessor's configuration file. How to have the predecessor at hand stands in
tests/gitlab_rest_predecessor.py; without it these tests are skipped.
"""

from __future__ import annotations

import base64
import gzip
import http.client
import json
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest

from regwarden.core.gitlab_rest_settings import import_gitlab_rest_settings
from regwarden.testing.content import BuiltManifest
from regwarden.testing.images import image, index, real_layer
from tests.fixtures.directory import ANONYMOUS, PASSWORD, Directory, StartDirectory
from tests.fixtures.distribution_servers import RegistryServer, _start_registries
from tests.gitlab_rest_predecessor import find_predecessor, running_predecessor, token_issuer, write_configuration
from tests.servers import require_binary
from tests.serving import running_service, wait_for

pytestmark = pytest.mark.e2e
find_predecessor()

COMPARED = ("content-type", "www-authenticate", "access-control-allow-origin", "access-control-allow-headers")
ALL = "?embed=true&links=true"


class Response(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Side:
    """One of the two, and the token it gave to alice."""

    address: str
    prefix: str = ""
    tokens: dict[str, str] = field(default_factory=dict)

    def ask(self, path: str, *, method: str = "GET", body: bytes | None = None, **headers: str) -> Response:
        connection = http.client.HTTPConnection(self.address, timeout=30)
        with closing(connection):
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, self.prefix + path, body, named)
            answer = connection.getresponse()
            return Response(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())

    def sign_in(self, username: str = "alice", password: str = PASSWORD) -> Response:
        encoded = base64.b64encode(f"{username}:{password}".encode()).decode()
        return self.ask("/auth_token", Authorization=f"Basic {encoded}")

    def get(self, path: str, **options: Any) -> Response:
        if not self.tokens:
            self.tokens["alice"] = self.sign_in().json["auth_token"]
        return self.ask(path, **{"Authorization": f"Bearer {self.tokens['alice']}", **options})


@dataclass
class Both:
    old: Side
    new: Side
    directory: Directory


def packed(text: str) -> bytes:
    return gzip.compress(text.encode() * 40, mtime=0)


def put(registry: RegistryServer, repository: str, built: BuiltManifest, tag: str = "") -> None:
    def call(method: str, url: str, body: bytes | None = None, media_type: str = "application/octet-stream") -> str:
        request = urllib.request.Request(url, body, {"Content-Type": media_type}, method=method)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return str(answer.headers.get("Location", ""))

    for child in built.children:
        put(registry, repository, child)
    for blob in built.blobs:
        place = call("POST", f"{registry.url}/v2/{repository}/blobs/uploads/")
        call("PUT", f"{place}&digest={blob.digest}", b"".join(blob.chunks()))
    call("PUT", f"{registry.url}/v2/{repository}/manifests/{tag or built.digest}", built.payload, built.media_type)


def fill(registry: RegistryServer) -> None:
    """OCI images only: of others the predecessor makes the registry convert, and write, what they are not."""
    shared, family = real_layer(packed("shared")), real_layer(packed("family" * 9))

    def own(text: str) -> BuiltManifest:
        return image([shared, family, real_layer(packed(text))], oci=True)

    put(registry, "plain", image([shared], oci=True), "latest")
    for tag in ("1.0.0", "1.1.0", "1.2.0", "v1_x-2.b"):
        put(registry, "team/app", own(tag), tag)
    put(registry, "a/b/c", image([shared, family], oci=True), "deep")
    put(registry, "tags/tags", own("tags"), "tags")
    twice = real_layer(packed("twice"))
    put(registry, "twice", image([twice, twice, shared], oci=True), "same-layer")
    put(registry, "multi/arch", index([own("amd"), own("arm")]), "both")
    put(registry, "emptied", own("gone"), "gone")
    put(registry, "broken", own("broken"), "x")
    manifests = registry.root / "docker" / "registry" / "v2" / "repositories"
    for link in sorted((manifests / "emptied" / "_manifests" / "tags" / "gone").rglob("*"), reverse=True):
        link.unlink() if link.is_file() else link.rmdir()
    (manifests / "emptied" / "_manifests" / "tags" / "gone").rmdir()
    tags = manifests / "broken" / "_manifests" / "tags"
    tags.rename(tags.with_name("lost"))
    tags.write_text("this is no folder: the registry fails to list the tags")


@pytest.fixture(scope="module", params=["/", "/registry/usage"])
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, start_directory: StartDirectory
) -> Iterator[Both]:
    prefix, folder = str(request.param), tmp_path_factory.mktemp("side-by-side")
    with ExitStack() as stack:
        start = stack.enter_context(contextmanager(_start_registries)(require_binary("docker-registry"), folder))
        registry = start()
        fill(registry)
        gitlab, directory = stack.enter_context(token_issuer()), start_directory(ANONYMOUS)
        old_file, port = write_configuration(folder, registry, gitlab, directory, prefix=prefix)
        old = stack.enter_context(running_predecessor(old_file, port))
        imported = import_gitlab_rest_settings(old_file.read_text()).document
        (folder / "token").write_text("access-token-of-the-reader")
        imported = imported.replace(f":{port}", ":0").replace("/etc/regwarden/registry-password", str(folder / "token"))
        imported = imported.replace("[ldap]", f'[ldap]\nca_bundle = "{directory.folder}/ca.crt"')
        configuration = f'{imported}\n[server]\nlisten = ["127.0.0.1:0"]\n'
        service = stack.enter_context(running_service(folder, configuration))
        mount = prefix.rstrip("/")
        new = Side(service.addresses("listening as gitlab-registry-usage-rest on")[0].removeprefix("http://"), mount)
        wait_for(lambda: len(new.get("/repositories?embed=1").json.get("_embedded", {}).get("items", ())) == 8)
        wait_for(lambda: new.get("/repositories/plain").json.get("size") is not None)
        yield Both(Side(old, mount), new, directory)


REQUESTS = [
    *(
        f"/repositories{query}"
        for query in ("", "?embed=0", "?embed=1", "?embed=2", "?embed=3", "?embed=true", "?links=1")
    ),
    *(
        f"/repositories{query}"
        for query in ("?embed=Yes&links=T", "?embed=1&links=y", "?embed=-1&links=2", "?embed=&links=")
    ),
    *(f"/repositories{query}" for query in ("?embed=1&embed=3", "?embed=99999999999", "?embed=%D9%A1", "?x=1")),
    *(f"/repositories/{name}{ALL}" for name in ("plain", "team%2Fapp", "team%2fapp", "team/app", "a/b/c", "twice")),
    *(f"/repositories/{name}{ALL}" for name in ("emptied", "broken", "tags%2Ftags", "nope", "tags/tags", "tags")),
    *(f"/repositories/{name}/tags{ALL}" for name in ("plain", "team%2Fapp", "a/b/c", "emptied", "broken", "nope")),
    *(
        f"/repositories/team/app/tags/{tag}{ALL}"
        for tag in ("1.0.0", "v1_x-2.b", "nope", "1%2E0.0", "a/b", "%2F", "%C3%A4")
    ),
    *(f"/repositories/tags{slash}tags/tags/tags" for slash in ("/", "%2F")),
    *("/repositories/", "/repositories/plain/", "/repositories/plain/tags/", "/repositories/plain/tags/latest/"),
    *("/", "/nowhere", "/auth_token/", "/repositoriesx", "/repositories/n%20o%3Cpe", "/repositories//plain?links=1"),
    "/repositories///plain//tags",
]


def normalised(document: Any) -> Any:
    """What may differ: when it was crawled, and the order of tags, which was that of a directory on the disk."""
    if isinstance(document, dict):
        if "timestamp" in document:
            assert isinstance(document["timestamp"], float)
        return {name: 0.0 if name == "timestamp" else normalised(value) for name, value in document.items()}
    if isinstance(document, list):
        return sorted((normalised(one) for one in document), key=json.dumps)
    return document


def with_deviations(document: Any, prefix: str, inside: str = "") -> Any:
    """An old document with the deviations that the how-to page lists: prefix, `self` and titles of tags."""
    if isinstance(document, list):
        return [with_deviations(one, prefix, inside) for one in document]
    if not isinstance(document, dict):
        return document
    links = document.get("_links", {})
    if links.get("collection", {}).get("href", "").endswith("/tags"):  # a tag
        links["self"]["href"] = f"{links['collection']['href']}/{document['name']}"
    if "up" in links:  # the tags of a repository
        for link in links.get("items", ()):
            link["title"] = link["href"].rpartition("/")[2]
    if "href" in document:
        return {**document, "href": prefix + document["href"]}
    return {name: with_deviations(value, prefix) for name, value in document.items()}


def without_indexes(document: Any) -> Any:
    """Without the one repository that has an index, which made it unreadable: it is compared by itself."""
    text = json.dumps(document)
    if "multi/arch" not in text:
        return document
    if isinstance(document, dict):
        return {name: without_indexes(value) for name, value in document.items()}
    if isinstance(document, list):
        return [without_indexes(one) for one in document if "multi/arch" not in (one.get("name"), one.get("title"))]
    return document


def same(both: Both, old: Response, new: Response) -> None:
    assert new.status == old.status
    if new.status == 308:
        assert old.headers["location"].endswith(new.headers["location"])
    assert {name: new.headers.get(name) for name in COMPARED} == {name: old.headers.get(name) for name in COMPARED}
    for name in ("allow", "access-control-allow-methods"):
        assert set(new.headers.get(name, "").split(", ")) == set(old.headers.get(name, "").split(", "))
    if "json" in old.headers.get("content-type", "") and old.body:
        expected = normalised(without_indexes(with_deviations(old.json, both.new.prefix)))
        assert json.dumps(normalised(without_indexes(new.json))) == json.dumps(expected)
    elif "html" not in old.headers.get("content-type", ""):
        assert new.body == old.body


@pytest.mark.parametrize("path", REQUESTS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_is_asked_for_by_path(both: Both, path: str, method: str) -> None:
    same(both, both.old.get(path, method=method), both.new.get(path, method=method))
    same(both, both.old.ask(path, method=method), both.new.ask(path, method=method))


def test_an_address_with_a_slash_at_its_end(both: Both) -> None:
    for path in ("//repositories?embed=1", "//auth_token", "//nowhere"):
        old, new = both.old.get(path), both.new.get(path)
        if both.new.prefix:
            same(both, old, new)
        else:  # cheroot took what follows for a host
            assert (old.status, new.status != 400) == (400, True)


@pytest.mark.parametrize("path", ["/repositories", "/repositories/plain/tags/latest", "/auth_token", "/nowhere", "/"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("origin", ["", "https://gui.example"])
def test_other_methods_and_origins(both: Both, path: str, method: str, origin: str) -> None:
    headers: dict[str, Any] = {"Origin": origin, "Access-Control-Request-Method": "GET"} if origin else {}
    headers |= {"Access-Control-Request-Headers": "authorization, x-a"} if origin else {}
    same(both, both.old.ask(path, method=method, **headers), both.new.ask(path, method=method, **headers))
    if origin:
        old, new = (side.get("/repositories/plain", Origin=origin) for side in (both.old, both.new))
        same(both, old, new)


@pytest.mark.parametrize(
    "accept",
    [
        *("*/*", "text/html", "text/*", "application/json", "application/hal+json", "application/xml", "text/html;q=0"),
        "text/html;q=0.5, application/hal+json;q=0.4",
        "application/json, text/html;q=0.9, */*;q=0.1",
        "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    ],
)
def test_media_types(both: Both, accept: str) -> None:
    for path in ("/repositories?embed=true", "/repositories/plain", "/repositories/nope"):
        same(both, both.old.get(path, Accept=accept), both.new.get(path, Accept=accept))


@pytest.mark.parametrize(
    "authorization",
    [
        *("", "Basic YTpi", "Bearer", "Bearer a b", "Bearer x", "Bearer x.y", "bearer TOKEN", "Bearer TOKENx", "TOKEN"),
        *("Basic x, Bearer TOKEN", "Bearer TOKEN, Bearer TOKEN", "Digest x", "Bearer  TOKEN"),
    ],
)
def test_authorization(both: Both, authorization: str) -> None:
    for path in ("/repositories/plain", "/repositories/nope", "/auth_token"):
        answers = []
        for side in (both.old, both.new):
            side.get("/repositories")
            answers.append(side.ask(path, Authorization=authorization.replace("TOKEN", side.tokens["alice"])))
        same(both, *answers)


@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        ("application/json", b'{"embed": true, "links": true}'),
        ("application/json", b'{"embed": 1}'),
        ("application/json", b'{"embed": "2", "links": "1"}'),
        ("text/plain", b"embed=1"),
    ],
)
def test_parameters_in_the_body(both: Both, media_type: str, body: bytes) -> None:
    for path in ("/repositories/plain", "/repositories/plain?embed=0"):
        same(both, *(side.get(path, body=body, Content_Type=media_type) for side in (both.old, both.new)))


def test_a_body_that_is_no_json(both: Both) -> None:
    for body in (b"", b"{", b"x"):
        old, new = (
            side.get("/repositories", body=body, Content_Type="application/json") for side in (both.old, both.new)
        )
        assert (new.status, list(new.json)) == (old.status, list(old.json)) == (400, ["message"])


def claims(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    decoded: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return decoded


def test_signing_in(both: Both) -> None:
    for username, password in (
        ("alice", "wrong"),
        ("nobody", PASSWORD),
        ("guest", PASSWORD),  # another group
        ("", ""),
        ("", PASSWORD),
    ):
        same(both, *(side.sign_in(username, password) for side in (both.old, both.new)))
    old, new = (side.sign_in() for side in (both.old, both.new))
    assert (new.status, new.headers["content-type"]) == (old.status, old.headers["content-type"])
    ours, theirs = claims(new.json["auth_token"]), claims(old.json["auth_token"])
    assert ours.pop("grants")
    assert set(ours) == set(theirs)
    assert {**ours, "iat": 0, "nbf": 0, "exp": 0, "jti": ""} == {**theirs, "iat": 0, "nbf": 0, "exp": 0, "jti": ""}
    assert ours["exp"] - ours["iat"] == theirs["exp"] - theirs["iat"] == 1_209_600
    assert len(ours["jti"]) == len(theirs["jti"])
    same(
        both,
        both.old.get("/repositories", Authorization=f"Bearer {new.json['auth_token']}"),
        both.new.get("/repositories", Authorization=f"Bearer {old.json['auth_token']}"),
    )


def test_the_deviations(both: Both) -> None:
    """Each with what the predecessor did; the how-to page lists them."""
    old, new = both.old, both.new
    path = "/repositories/broken/tags/x"
    assert old.get(path).status == 500
    assert new.get(path).json == {"name": "x", "size": None, "disk_size": None}
    path = "/repositories?embed=%C2%B2"
    assert (old.get(path).status, new.get(path).status) == (500, 200)
    json_list = {"body": b"[1]", "Content_Type": "application/json"}
    assert (old.get("/repositories", **json_list).status, new.get("/repositories", **json_list).status) == (500, 400)
    form = {"body": b"embed=1", "Content_Type": "application/x-www-form-urlencoded"}
    path = "/repositories/plain"
    assert ("_embedded" in old.get(path, **form).json, "_embedded" in new.get(path, **form).json) == (False, True)
    path = "/repositories/multi%2Farch"
    assert old.get(path).json["size"] is None
    assert new.get(path).json["size"] > 0
    assert (old.sign_in("alice", "").status, new.sign_in("alice", "").status) == (500, 401)
    # The name was a part of the search: with it people signed in as whom they matched.
    injected = "alice)(objectClass=*"
    assert (old.sign_in(injected).status, new.sign_in(injected).status) == (200, 401)
    # Without a word about it the directory's certificate was not looked at; ours must be named (see the fixture).
    assert old.ask("/images").status == 404
    assert new.get("/images/plain").json == new.get("/repositories/plain").json
    both.directory.stop()
    try:
        assert (old.sign_in().status, new.sign_in().status) == (500, 503)
    finally:
        both.directory.start()


def test_every_link_of_ours_leads_somewhere_and_theirs_do_not(both: Both) -> None:
    def links(document: Any) -> Iterator[str]:
        if isinstance(document, dict):
            yield from [document["href"]] if "href" in document else []
            document = list(document.values())
        if isinstance(document, list):
            for one in document:
                yield from links(one)

    found = set(links(both.new.get(f"/repositories{ALL}").json))
    assert len(found) > 20
    for link in found:
        answer = both.new.get(f"{link.removeprefix(both.new.prefix)}?links=1")
        assert answer.json["_links"]["self"]["href"] == link
    theirs = set(links(both.old.get(f"/repositories{ALL}").json))
    assert {both.old.get(link).status for link in theirs} == {200, 404}
