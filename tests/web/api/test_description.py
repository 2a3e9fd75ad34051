"""The description of the interface: complete, valid, offline."""

from __future__ import annotations

import re

import jsonschema
import pytest
from schemathesis.specs.openapi.definitions import OPENAPI_31

from tests.web.api.conftest import Api


async def test_it_is_openapi_and_names_every_problem(api: Api):
    answer = await api.get("/openapi.json", who=None)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    document = answer.json
    assert document["openapi"].startswith("3.1")
    for path, methods in document["paths"].items():
        assert path.startswith("/api/v1")
        for method, operation in methods.items():
            assert operation["summary"], (path, method)
            if operation.get("security"):
                assert {"401", "403", "404", "429", "503"} <= set(operation["responses"]), (path, method)
            assert "422" not in operation["responses"]
            for parameter in operation.get("parameters", []):
                assert parameter.get("description") or parameter["schema"].get("description"), (path, parameter["name"])


async def test_references_lead_somewhere(api: Api):
    body = (await api.get("/openapi.json", who=None)).body.decode()
    names = set(re.findall(r'"#/components/schemas/([^"]+)"', body))
    assert names <= set((await api.get("/openapi.json", who=None)).json["components"]["schemas"])


async def test_the_page_needs_nothing_from_elsewhere_and_runs_nothing(api: Api):
    answer = await api.get("/docs", who=None)
    page = answer.body.decode()
    assert answer.headers["content-type"].startswith("text/html")
    assert "<script" not in page
    assert "style=" not in page
    assert not re.findall(r'(?:src|href)="(?!/api/v1/|#)', page)
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert "/registries/{registry}" in page
    style = await api.get("/docs/style.css", who=None)
    assert (style.status, style.headers["content-type"]) == (200, "text/css; charset=utf-8")
    assert "url(" not in style.body.decode()
    assert "@import" not in style.body.decode()
    assert (await api.get("/docs/other.css", who=None)).status == 404
    assert (await api.get("/docs/..%2Fopenapi.py", who=None)).status == 404


async def test_the_document_is_valid(api: Api):
    document = (await api.get("/openapi.json", who=None)).json
    jsonschema.validators.validator_for(OPENAPI_31)(OPENAPI_31).validate(document)
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


async def test_every_answer_and_every_field_is_explained(api: Api):
    document = (await api.get("/openapi.json", who=None)).json
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            for status, answer in operation["responses"].items():
                place = (method, path, status)
                assert answer["description"], place
                assert answer["description"] != "Successful Response", place
                assert answer.get("content") or status in {"204", "304"}, place
                for content in answer.get("content", {}).values():
                    assert content["schema"], place
            for content in operation.get("requestBody", {}).get("content", {}).values():
                assert content["example"] is not None, (method, path)
    for name, schema in document["components"]["schemas"].items():
        if name not in {"Link", "Document", "List", "Problem"}:
            for field, described in schema["properties"].items():
                assert described.get("description"), (name, field)


async def test_every_hal_answer_has_an_example_of_its_form(api: Api):
    document = (await api.get("/openapi.json", who=None)).json
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            for status, answer in operation["responses"].items():
                content = answer.get("content", {}).get("application/hal+json")
                if content is not None:
                    assert content["example"], (method, path, status)
                    schema = {**content["schema"], "components": document["components"]}
                    jsonschema.Draft202012Validator(schema).validate(content["example"])


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/events/stream", "text/event-stream"),
        ("/operations/{operation_id}/stream", "text/event-stream"),
        ("/plans/{plan_id}/review", "text/markdown"),
        ("/plans/{plan_id}/evidence", "application/x-ndjson"),
        ("/policies/schema", "application/schema+json"),
        ("/policies/example", "application/yaml"),
        ("/events/quarantine/{delivery_id}/body", "application/octet-stream"),
    ],
)
async def test_what_is_no_hal_is_described_so(api: Api, path: str, media_type: str):
    document = (await api.get("/openapi.json", who=None)).json
    answers = document["paths"][f"/api/v1{path}"]["get"]["responses"]
    assert list(answers["200"]["content"]) == [media_type]
    assert list(answers["404"]["content"]) == ["application/problem+json"]


async def test_the_page_tells_shared_failures_once_and_shows_examples(api: Api):
    page = (await api.get("/docs", who=None)).body.decode()
    assert page.count("Nobody has shown who they are.") == 1
    assert page.count("Name taken") == 1
    assert "rgw_EXAMPLE" in page
    # The fields of a body that may be left out altogether.
    assert "requests_per_second" in page.partition('<section id="post-api-v1-plans-plan-id-apply">')[2]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/plans/1/finish", {"runs_command": 0}),
        ("/plans/1/apply", {"max_failures": "5"}),
        ("/crawls", {"registry": "prod", "verify": "yes"}),
        ("/tokens", {"name": "a", "grants": [{"role": "viewer", "registries": "prod"}]}),
        ("/policies/explain", {"reference": "prod/a:b", "plan_id": "1"}),
    ],
)
async def test_a_body_is_taken_by_the_word(api: Api, path: str, body: object):
    answer = await api.ask("POST", path, body)
    assert (answer.status, answer.json["code"]) == (400, "bad-request")
    assert answer.json["errors"]


async def test_the_words_of_a_query_are_read_from_text(api: Api):
    assert (await api.get("/events?limit=5&unknown_hosts=false")).status == 200
    assert (await api.get("/audit?limit=5")).status == 200
    assert (await api.get("/pulls?limit=5")).status == 200


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("DELETE", "/allow/check", "GET, HEAD, POST"), ("DELETE", "/allow/decisions", "GET, HEAD")],
)
async def test_words_beside_numbers_are_no_numbers(api: Api, method: str, path: str, allowed: str):
    answer = await api.ask(method, path)
    assert (answer.status, answer.headers["allow"]) == (405, allowed)


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/registries/prod?as_of=soon", "as_of"),
        ("/registries/prod/repositories/team%2Fapp?as_of=soon", "as_of"),
        ("/usage?as_of=soon", "as_of"),
        ("/manifests/sha256:000000?as_of=soon", "as_of"),
        ("/history?reference=prod/team/app:latest&as_of=soon", "as_of"),
        ("/events?action=eat", "action"),
        ("/events?class=nobody", "class"),
        ("/events?repository=re:(", "repository"),
        ("/events?since=soon", "since"),
        ("/events?since=999999999d", "since"),
        ("/events?cursor=x", "cursor"),
        ("/events/stream?until=soon", "until"),
        ("/pulls?by=moon", "by"),
        ("/pulls?sort=moon", "sort"),
        ("/pulls?class=nobody", "class"),
        ("/pulls?method=PUT", "method"),
        ("/pulls?as_of=soon", "as_of"),
        ("/pulls?since=999999999d", "since"),
        ("/pulls?until=2020-01-01", "until"),
        ("/pulls?selector=%3A", "selector"),
        ("/audit?since=999999999d", "since"),
        ("/allow/decisions?since=999999999d", "since"),
        ("/registries/prod/growth?since=999999999d", "since"),
    ],
)
async def test_the_wrong_parameter_is_named(api: Api, path: str, field: str):
    answer = await api.get(path)
    assert answer.status == 400, answer.body
    assert [one["field"] for one in answer.json["errors"]] == [field]
