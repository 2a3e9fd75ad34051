"""Long work: begun, watched, cancelled; bounded; nobody else's business."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from regwarden.core.access import Grant, Principal, PrincipalKind, Role
from regwarden.errors import Conflict, NotFound, TooManyAttempts
from regwarden.web import operations as module
from regwarden.web.control import Tell
from regwarden.web.operations import Operation, Operations, OperationState, Work
from tests.web.api.conftest import Api

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def somebody(name: str, role: Role = Role.VIEWER) -> Principal:
    return Principal(id=f"token:{name}", name=name, kind=PrincipalKind.TOKEN, grants=(Grant(role),))


ANN, BOB, ADMIN = somebody("ann"), somebody("bob"), somebody("root", Role.ADMIN)


def work(run: Any, kind: str = "test") -> Work:
    return Work(kind=kind, subject="something", run=run)


async def forever(_tell: Tell) -> None:
    await asyncio.Event().wait()


def returns(value: Any) -> Any:
    async def run(_tell: Tell) -> Any:
        return value

    return run


async def wait(operation: Operation) -> None:
    await asyncio.wait_for(operation.ended.wait(), 5)


async def test_its_result_and_its_warnings_stay():
    operations = Operations(lambda: NOW)

    async def run(tell: Tell) -> dict[str, int]:
        tell.progress({"done": 1})
        tell.warning("careful")
        return {"found": 3}

    operation = operations.start(work(run), ANN)
    await wait(operation)
    assert (operation.state, bytes(operation.result or b""), operation.latest) == ("done", b'{"found":3}', {"done": 1})
    assert (list(operation.warnings), operation.warning_count, operation.ended_at) == (["careful"], 1, NOW)


async def test_only_who_began_it_and_administrators_see_it():
    operations = Operations()
    operation = operations.start(work(returns(1)), ANN)
    assert operations.find(operation.id, ANN) is operations.find(operation.id, ADMIN) is operation
    with pytest.raises(NotFound):
        operations.find(operation.id, BOB)
    assert [operations.list_for(one) for one in (ANN, BOB, ADMIN)] == [[operation], [], [operation]]


async def test_what_fails_is_a_problem_and_what_nobody_foresaw_tells_nothing():
    operations = Operations()

    async def refuses(_tell: Tell) -> None:
        raise Conflict("the plan is closed", hint="Make a new one.", code="plan-state")

    async def breaks(_tell: Tell) -> None:
        raise RuntimeError("password=hunter2")

    first, second = operations.start(work(refuses), ANN), operations.start(work(breaks), ANN)
    await wait(first)
    await wait(second)
    assert (first.state, second.state) == (OperationState.FAILED, OperationState.FAILED)
    assert b'"code":"plan-state"' in bytes(first.error or b"")
    assert b'"code":"internal"' in bytes(second.error or b"")
    assert b"hunter2" not in bytes(second.error or b"")


async def test_cancelled_even_before_its_first_step():
    operations = Operations()
    running, unbegun = operations.start(work(forever), ANN), None
    await asyncio.sleep(0)
    unbegun = operations.start(work(forever), ANN)
    for operation in (running, unbegun):
        await operations.cancel(operation)
        await wait(operation)
        assert operation.state == "cancelled"
        await operations.cancel(operation)


async def test_there_are_not_endlessly_many(monkeypatch):
    monkeypatch.setattr(module, "MAX_RUNNING", module.MAX_RUNNING_EACH + 1)
    operations = Operations()
    for _ in range(module.MAX_RUNNING_EACH):
        operations.start(work(forever), ANN)
    with pytest.raises(TooManyAttempts, match="8 operations"):
        operations.start(work(forever), ANN)
    operations.start(work(forever), BOB)
    with pytest.raises(TooManyAttempts, match="9 operations"):
        operations.start(work(forever), ADMIN)
    await operations.close()
    assert {one.state for one in operations.list_for(ADMIN)} == {OperationState.CANCELLED}
    with pytest.raises(Conflict, match="stopped"):
        operations.start(work(forever), ANN)


async def test_they_are_forgotten_after_a_day_or_when_there_are_many_or_they_are_large(monkeypatch):
    now = NOW
    operations = Operations(lambda: now)
    running = operations.start(work(forever), ANN)
    old = operations.start(work(returns(1)), ANN)
    await wait(old)
    now += timedelta(hours=25)
    assert operations.list_for(ANN) == [running]
    monkeypatch.setattr(module, "MAX_KEPT", 3)
    for number in range(5):
        await wait(operations.start(work(returns(number)), ANN))
    assert len(operations.list_for(ANN)) <= 3
    monkeypatch.setattr(module, "MAX_RESULT_BYTES", 100)
    large = operations.start(work(returns("x" * 200)), ANN)
    await wait(large)
    assert operations.list_for(ANN) == [running]
    await operations.close()


async def test_over_http(api: Api):
    api.people.add("ann", Role.VIEWER)
    ann = api.people.principals["ann"]
    done = api.parts.operations.start(work(returns({"a": 1})), ann)
    running = api.parts.operations.start(work(forever), ann)
    await wait(done)
    shown = await api.get(f"/operations/{done.id}", who="ann")
    assert (shown.status, shown.json["state"], shown.json["result"]) == (200, "done", {"a": 1})
    assert shown.headers["cache-control"] == "no-store"
    assert [one["id"] for one in (await api.get("/operations", who="ann")).items] == [running.id, done.id]
    for who in ("viewer", "operator"):
        assert (await api.get(f"/operations/{done.id}", who=who)).json["code"] == "no-operation"
        assert (await api.ask("DELETE", f"/operations/{running.id}", who=who)).status == 404
    assert (await api.get("/operations/../x")).status == 404
    assert (await api.get("/operations/x")).status == 400
    cancelled = await api.ask("DELETE", f"/operations/{running.id}", who="admin")
    assert (cancelled.status, cancelled.json["state"]) == (200, "cancelled")


async def test_its_stream_ends_with_it(api: Api):
    gate = asyncio.Event()

    async def run(tell: Tell) -> int:
        tell.progress({"done": 1})
        await gate.wait()
        tell.progress({"done": 2})
        return 7

    operation = api.parts.operations.start(work(run), api.people.principals["admin"])
    streaming = asyncio.create_task(api.get(f"/operations/{operation.id}/stream"))
    await asyncio.sleep(0.1)
    gate.set()
    answer = await asyncio.wait_for(streaming, 10)
    assert answer.headers["content-type"].startswith("text/event-stream")
    text = answer.body.decode()
    assert '"progress":{"done":1}' in text
    assert text.count("event: end") == 1
    assert '"result":7' in text.partition("event: end")[2]


async def test_a_stream_ends_when_the_service_does(api: Api):
    operation = api.parts.operations.start(work(forever), api.people.principals["admin"])
    streaming = asyncio.create_task(api.get(f"/operations/{operation.id}/stream"))
    await asyncio.sleep(0.1)
    await api.parts.operations.close()
    assert (await asyncio.wait_for(streaming, 5)).status == 200
    assert (await ended_state(api, operation)) == "cancelled"


async def ended_state(api: Api, operation: Operation) -> Any:
    return (await api.get(f"/operations/{operation.id}")).json["state"]


def test_administrators_are_those_who_may_do_everything():
    assert module.is_administrator(ADMIN)
    assert not module.is_administrator(ANN)


async def test_streams_are_not_endlessly_many_either(api: Api, monkeypatch):
    monkeypatch.setattr(module, "MAX_STREAMS_EACH", 1)
    operations = api.parts.operations
    operation = operations.start(work(forever), api.people.principals["admin"])
    streaming = asyncio.create_task(api.get(f"/operations/{operation.id}/stream"))
    await asyncio.sleep(0.1)
    for path in (f"/operations/{operation.id}/stream", "/events/stream"):
        answer = await api.get(path)
        assert (answer.status, answer.json["code"]) == (429, "too-many-streams")
        assert answer.headers["retry-after"]
    await operations.cancel(operation)
    await asyncio.wait_for(streaming, 5)
    assert (await api.get(f"/operations/{operation.id}/stream")).status == 200


async def test_who_asks_for_the_headers_of_a_stream_gets_no_stream(api: Api):
    answer = await asyncio.wait_for(api.ask("HEAD", "/events/stream"), 5)
    assert (answer.status, answer.body) == (200, b"")
