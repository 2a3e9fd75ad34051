"""A whole double: an independent client with the scenario's credentials, tokens, events, and the record."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests import servers
from tests.fixtures.gitlab_servers import GitLabMode, StartGitLab
from tests.gitlab_double import keys
from tests.gitlab_double.asking import ask, fetch_token, send
from tests.gitlab_double.pushing import INTERNAL_AGENT
from tests.gitlab_double.recording import Fault, FaultKind
from tests.gitlab_double.running import GitLab, Mode, running_gitlab
from tests.live_registry import picture


@pytest.fixture(scope="module", params=GitLabMode)
def gitlab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitLab]:
    with running_gitlab(tmp_path_factory.mktemp("gitlab"), mode=request.param) as gitlab:
        yield gitlab


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitLab]:
    with running_gitlab(tmp_path_factory.mktemp("gitlab"), mode="plain") as gitlab:
        gitlab.push("team/app", picture("app"), "1")
        yield gitlab


def skopeo(gitlab: GitLab, verb: str, *arguments: str, name: str) -> tuple[int, str]:
    """Status and what it said, with a credential of the scenario."""
    program = servers.require_binary("skopeo")
    command = [str(program), verb, *arguments]
    if verb == "copy":
        command += ["--dest-creds", f"{name}:{gitlab.tokens[name]}", "--dest-tls-verify=false"]
    else:
        command += ["--creds", f"{name}:{gitlab.tokens[name]}", "--tls-verify=false"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return run.returncode, run.stdout + run.stderr


def test_an_independent_client_copies_lists_and_deletes_with_gitlab_s_rights(gitlab: GitLab, tmp_path: Path):
    gitlab.push("open/pub", picture("source"), "1")
    address = f"docker://{gitlab.registry_host}/team/app/worker"
    status, text = skopeo(gitlab, "list-tags", f"docker://{gitlab.registry_host}/open/pub", name="reporter")
    assert (status, json.loads(text or "{}").get("Tags")) == (0, ["1"]), text
    folder = f"dir:{tmp_path}/copied"
    login = f"root:{gitlab.tokens['admin']}"
    fetch = ["--src-tls-verify=false", "--src-creds", login, f"docker://{gitlab.registry_host}/open/pub:1", folder]
    assert skopeo(gitlab, "copy", *fetch, name="admin")[0] == 0
    for tag in ("one", "two"):
        assert skopeo(gitlab, "copy", folder, f"{address}:{tag}", name="developer")[0] == 0
    assert skopeo(gitlab, "copy", folder, f"{address}:three", name="reporter")[0] != 0
    assert skopeo(gitlab, "delete", f"{address}:one", name="developer")[0] != 0
    assert list(gitlab.view.tags("team/app/worker")) == ["one", "two"]
    status, text = skopeo(gitlab, "delete", f"{address}:one", name="maintainer")
    assert (status, list(gitlab.view.tags("team/app/worker"))) == (0, []), text


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({}, 200),
        ({"aud": ["container_registry"]}, 401),
        ({"aud": "other"}, 401),
        ({"iss": "other"}, 401),
        ({"exp": -30}, 200),
        ({"exp": -90}, 401),
        ({"nbf": 30}, 200),
        ({"nbf": 120}, 401),
        ({"access": []}, 401),
        ({"access": [{"type": "repository", "name": "team/*", "actions": ["pull"]}]}, 401),
        ({"access": [{"type": "repository", "name": "team/app", "actions": ["*"]}]}, 200),
        ({"access": [{"type": "repository", "name": "team/app", "actions": ["delete"]}]}, 401),
        ({"sub": "", "user": "x", "auth_type": "y"}, 200),
    ],
)
def test_the_real_registry_takes_tokens_as_the_experiments_have_it(plain: GitLab, change: dict[str, Any], status: int):
    now = int(time.time())
    access = [{"type": "repository", "name": "team/app", "actions": ["pull"], "meta": {"project_id": 1}}]
    moved = {claim: now + value for claim, value in change.items() if isinstance(value, int)}
    times = {"iat": now, "nbf": now - 5, "exp": now + 300}
    claims = {"aud": "container_registry", "iss": "gitlab-issuer", **times, "access": access} | change | moved
    answer = ask(plain, "/v2/team/app/tags/list", keys.sign(claims))
    assert answer.status == status
    if status == 401:
        assert "Bearer realm=" in answer.headers["WWW-Authenticate"]


def test_tokens_that_were_tampered_with_are_refused_by_registry_and_facade(gitlab: GitLab):
    gitlab.push("team/app", picture("app"), "1")
    head, body, signature = fetch_token(gitlab, "repository:team/app:pull").split(".")
    for wrong in (f"{head}.{body}.{signature[::-1]}", f"{head}.{body}.", "no-token"):
        answers = [ask(gitlab, path, wrong) for path in ("/v2/", "/v2/team/app/tags/list")]
        assert [answer.status for answer in answers] == [401, 401]
        if gitlab.mode == "database":
            assert ask(gitlab, "/gitlab/v1/repositories/team/app/tags/list/", wrong).status == 401


def test_the_record_has_all_three_parts_but_nothing_of_the_double_itself(gitlab: GitLab):
    gitlab.forget_requests()
    gitlab.push("team/app", picture("recorded"), "recorded")
    token = fetch_token(gitlab, "repository:team/app:pull", "registry:catalog:*")
    ask(gitlab, "/v2/team/app/tags/list?n=3", token)
    send("GET", f"{gitlab.url}/api/v4/projects/101", headers={"PRIVATE-TOKEN": gitlab.tokens["admin"]})
    found = {each.part: each for each in gitlab.requests}
    assert len(gitlab.requests) == 3
    assert found["issuer"].scopes == ("repository:team/app:pull", "registry:catalog:*")
    assert (found["registry"].path, found["registry"].query) == ("/v2/team/app/tags/list", {"n": ["3"]})
    assert (found["rails"].path, found["rails"].status) == ("/api/v4/projects/101", 200)
    assert gitlab.tokens["admin"] not in repr(gitlab.requests)
    assert INTERNAL_AGENT not in repr(gitlab.requests)


def test_rest_describes_and_deletes_the_real_registry_s_tags(gitlab: GitLab):
    for tag in ("rest-1", "rest-2"):
        gitlab.push("team/app", picture("rest"), tag)
    place = f"{gitlab.url}/api/v4/projects/101/registry/repositories/1"
    headers = {"PRIVATE-TOKEN": gitlab.tokens["developer"]}
    details = send("GET", f"{place}/tags/rest-2", headers=headers).document
    assert details["digest"] == str(picture("rest").digest)
    assert details["location"] == f"{gitlab.registry_host}/team/app:rest-2"
    assert send("DELETE", f"{place}/tags/rest-2", headers=headers).status == 200
    size = send("GET", f"{gitlab.url}/api/v4/registry/repositories/1?size=true", headers=headers).document["size"]
    assert ("rest-1" in gitlab.view.tags("team/app"), "rest-2" in gitlab.view.tags("team/app")) == (True, False)
    assert (size is not None) == (gitlab.mode == "database")


def test_faults_also_befall_the_registry(start_gitlab: StartGitLab):
    gitlab = start_gitlab(mode="files")
    gitlab.push("team/app", picture("app"), "1")
    gitlab.faults.add(Fault(FaultKind.TOO_MANY, part="registry", path="/tags/list", seconds=1))
    token = fetch_token(gitlab, "repository:team/app:pull")
    answers = [ask(gitlab, "/v2/team/app/tags/list", token) for _ in range(2)]
    assert (answers[0].status, answers[0].headers["Retry-After"], answers[1].status) == (429, "1", 200)


def test_whoever_asks_what_nobody_scripted_fails_the_test(tmp_path: Path):
    with pytest.raises(AssertionError, match="GET /gitlab/v1/statistics/"), running_gitlab(tmp_path) as gitlab:
        assert ask(gitlab, "/gitlab/v1/statistics/").status == 501


def test_any_number_of_them_can_be_started(start_gitlab: StartGitLab):
    first, second = start_gitlab(mode="plain"), start_gitlab(mode="database")
    assert ask(second, "/v2/", fetch_token(first)).status == 200  # one key signs for all
    assert first.registry_url != second.registry_url


@contextmanager
def receiving() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An address that accepts events with the secret, and what it got."""
    found: list[dict[str, Any]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            is_known = self.headers["Authorization"] == "notif-secret"
            if is_known:
                found.extend(json.loads(body)["events"])
            self.send_response(200 if is_known else 401)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/hook", found
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("mode", GitLabMode)
def test_events_are_those_that_each_registry_sends(tmp_path: Path, mode: Mode):
    with receiving() as (url, found), running_gitlab(tmp_path, mode=mode, notify=[(url, "notif-secret")]) as gitlab:
        for tag in ("1", "2"):
            digest = gitlab.push("team/app", picture("told"), tag)
        token = fetch_token(gitlab, "repository:team/app:pull,delete", name="maintainer")
        ask(gitlab, "/v2/team/app/manifests/2", token, method="DELETE")
        ask(gitlab, f"/v2/team/app/manifests/{digest}", token, method="DELETE")
        # The registry itself tells of each tag that a manifest takes with it; with the database GitLab's does not.
        expected = [("2", ""), ("", digest), *([] if mode == "database" else [("1", "")])]
        if mode == "database":
            gitlab.rename("team/app", "team/moved")

        def deleted() -> list[tuple[str, str]]:
            targets = [event["target"] for event in found if event["action"] == "delete"]
            return [(target.get("tag", ""), target.get("digest", "")) for target in targets]

        servers.wait_until(lambda: sorted(deleted()) == sorted(expected), what=f"{expected} instead of {deleted()}")
        pushed = [event["target"].get("tag") for event in found if event["action"] == "push"]
        assert [tag for tag in pushed if tag] == ["1", "2"]
        if mode == "database":
            servers.wait_until(lambda: "rename" in [event["action"] for event in found], what="the rename")
            moved = next(event["target"] for event in found if event["action"] == "rename")
            assert moved["rename"] == {"type": "name", "from": "team/app", "to": "team/moved"}
            told = next(event for event in found if event["target"].get("tag") == "2" and event["action"] == "delete")
            assert (told["actor"]["name"], told["actor"]["user_type"]) == ("mia", "personal_access_token")
            assert [row.path for row in gitlab.scenario.repositories][:2] == ["team/moved", "team/moved/work"]
            assert gitlab.storage.repositories() == ["team/moved"]
