"""A process that dies between any two things it does: the next run goes on, and nothing is done twice."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from regwarden.errors import RegistryError
from regwarden.flows import apply_steps
from regwarden.store import journal, own_changes, trash
from regwarden.store.journal import EntryKind
from regwarden.store.trash import load
from regwarden.testing.behaviour import Behaviour, Fault
from regwarden.testing.content import Content
from tests.flows.cleaning import Cleanup, cleaning, picture, platforms

NEW = picture("new")


class Died(BaseException):
    """The process ends here."""


def content_of_three() -> Content:
    content = Content()
    repository = content.repository("app")
    repository.add(platforms("multi"), "1.0", "1.0.1")
    repository.add(picture("old"), "1.1")
    repository.add(NEW, "2.0")
    return content


def die(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, *, at: int, after: bool) -> list[int]:
    """Let the call number ``at`` of a function end the process, before or after it did something; counts calls."""
    work = getattr(owner, name)
    calls = [0]

    def count() -> bool:
        calls[0] += 1
        return calls[0] == at

    def dying(*arguments: Any, **options: Any) -> Any:
        is_last = count()
        if is_last and not after:
            raise Died
        result = work(*arguments, **options)
        if is_last:
            raise Died
        return result

    async def dying_later(*arguments: Any, **options: Any) -> Any:
        is_last = count()
        if is_last and not after:
            raise Died
        result = await work(*arguments, **options)
        if is_last:
            raise Died
        return result

    monkeypatch.setattr(owner, name, dying_later if asyncio.iscoroutinefunction(work) else dying)
    return calls


POINTS = [
    ("resolve", apply_steps),
    ("collect_bytes", apply_steps),
    ("put", trash),
    ("note_intent", journal),
    ("_send", apply_steps),
    ("note_outcome", journal),
    ("note_deleted", own_changes),
    ("_end", apply_steps),
]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("name", "owner"), POINTS, ids=[one[0] for one in POINTS])
async def test_a_run_that_dies_is_taken_up_without_a_second_effect(monkeypatch, name, owner, after):
    async with cleaning(content_of_three()) as cleanup:
        await cleanup.crawl()
        plan_id = await cleanup.save(cleanup.plan(cleanup.select("app:glob:1*")), "ann")
        with monkeypatch.context() as patched:
            calls = die(patched, owner, name, at=2, after=after)
            # The next thing that would be done is not done either: a dead process does not clean up.
            patched.setattr("regwarden.flows.cleanup._finish", nothing)
            patched.setattr("regwarden.flows.cleanup._linger", nothing)
            patched.setattr("regwarden.flows.applying._Work.end", nothing)
            with pytest.raises((Died, AttributeError)):
                await cleanup.apply(plan_id)
        assert calls == [2]
        await check_taken_up(cleanup, plan_id)


async def nothing(*_: Any, **__: Any) -> None:
    return None


async def check_taken_up(cleanup: Cleanup, plan_id: int) -> None:
    """The plan goes on to its end; no manifest is deleted twice, and each deletion was announced and kept before."""
    report = await cleanup.apply(plan_id)
    assert (report.results, report.state, report.problems) == ({"done": 4}, "applied", ())
    assert len(cleanup.sent()) == len(set(cleanup.sent())) == 4
    assert cleanup.tags("app") == {"2.0": str(NEW.digest)} == cleanup.known_tags("app")
    assert list(cleanup.content.repository("app").manifests) == [NEW.digest]
    entries = cleanup.journal(plan_id)
    for one in cleanup.steps(plan_id):
        mine = [entry.entry for entry in entries if entry.position == one.step.position]
        assert mine[0] is EntryKind.INTENT
        assert mine[-1] is EntryKind.OUTCOME
    kept = {one.digest for one in cleanup.database.read_now(lambda connection: load(connection, plan_id))}
    assert {one.step.digest for one in cleanup.steps(plan_id)} <= kept


@pytest.mark.parametrize("fault", [Fault(0), Fault(502)])
async def test_an_answer_that_says_nothing_is_followed_by_a_look_and_not_by_a_second_request(monkeypatch, fault):
    async with cleaning(content_of_three()) as cleanup:
        await cleanup.crawl()
        plan_id = await cleanup.save(cleanup.plan(cleanup.select("app:1.1")), "ann")
        delete = cleanup.inventory.connector.delete_manifest

        async def lose_the_answer(repository, digest):
            await delete(repository, digest)
            raise RegistryError("the connection broke", status=fault.status or None, temporary=True)

        monkeypatch.setattr(cleanup.inventory.connector, "delete_manifest", lose_the_answer)
        report = await cleanup.apply(plan_id)
        assert (report.results, len(cleanup.sent())) == ({"done": 1}, 1)


async def test_what_was_asked_for_in_vain_is_asked_for_once_more():
    async with cleaning(content_of_three()) as cleanup:
        await cleanup.crawl()
        plan_id = await cleanup.save(cleanup.plan(cleanup.select("app:1.1")), "ann")
        cleanup.registry.behaviour.faults["DELETE", ".*"] = [Fault(0)]
        report = await cleanup.apply(plan_id)
        assert (report.results, len(cleanup.sent())) == ({"done": 1}, 2)
        results = [one.result for one in cleanup.journal(plan_id) if one.entry is EntryKind.OUTCOME]
        assert results == ["not-done", "done"]


async def test_what_was_asked_for_twice_in_vain_has_failed():
    async with cleaning(content_of_three()) as cleanup:
        await cleanup.crawl()
        plan_id = await cleanup.save(cleanup.plan(cleanup.select("app:1.1")), "ann")
        cleanup.registry.behaviour.faults["DELETE", ".*"] = [Fault(502)] * 5
        report = await cleanup.apply(plan_id)
        assert (report.results, len(cleanup.sent())) == ({"failed": 1}, 2)


async def test_a_silent_registry_leaves_the_question_open_for_the_next_run(monkeypatch):
    async with cleaning(content_of_three()) as cleanup:
        await cleanup.crawl()
        plan_id = await cleanup.save(cleanup.plan(cleanup.select("app:glob:1*")), "ann")
        (first, *_) = [one.step.digest for one in cleanup.steps(plan_id)]
        delete = cleanup.inventory.connector.delete_manifest
        head = cleanup.inventory.connector.head_manifest

        async def silent(*_: Any) -> Any:
            raise RegistryError("no answer", temporary=True)

        async def delete_and_break(repository, digest):
            await delete(repository, digest)
            monkeypatch.setattr(cleanup.inventory.connector, "head_manifest", silent)
            raise RegistryError("no answer", temporary=True)

        monkeypatch.setattr(cleanup.inventory.connector, "delete_manifest", delete_and_break)
        report = await cleanup.apply(plan_id)
        assert report.results["intended"] == 1
        assert report.state == "applying"
        monkeypatch.setattr(cleanup.inventory.connector, "delete_manifest", delete)
        monkeypatch.setattr(cleanup.inventory.connector, "head_manifest", head)
        again = await cleanup.apply(plan_id)
        assert again.results.get("done", 0) >= 2
        assert len(cleanup.sent()) == len(set(cleanup.sent()))
        assert any(path.endswith(first) for path in cleanup.sent())


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", ["put_placeholder", "_end"])
async def test_a_placeholder_that_was_left_is_removed_by_the_next_run(monkeypatch, name, after):
    content = Content()
    content.repository("app").add(picture("old"), "1.0", "1.1")
    content.repository("app").add(NEW, "2.0")
    async with cleaning(content) as cleanup:
        await cleanup.crawl()
        made_from = cleanup.select("app:1.1", untag=True, with_placeholders=True)
        plan_id = await cleanup.save(cleanup.plan(made_from), "ann")
        with monkeypatch.context() as patched:
            calls = die(patched, apply_steps, name, at=1, after=after)
            patched.setattr("regwarden.flows.cleanup._finish", nothing)
            patched.setattr("regwarden.flows.cleanup._linger", nothing)
            patched.setattr("regwarden.flows.applying._Work.end", nothing)
            with pytest.raises((Died, AttributeError)):
                await cleanup.apply(plan_id)
        assert calls == [1]
        assert (await cleanup.apply(plan_id)).results == {"done": 1}
        assert cleanup.tags("app").keys() == {"1.0", "2.0"}
        assert len(cleanup.content.repository("app").manifests) == 2


VICTIM = """
import asyncio, os, signal, sys
from tests.flows.test_cleanup_crashes import victim
asyncio.run(victim(*sys.argv[1:]))
"""


async def victim(url: str, address: str, plan_id: str) -> None:
    """Apply the plan in a process of its own, which is killed right after the registry carried out a deletion."""
    from tests.flows.cleaning import attached

    async with attached(url, address) as cleanup:
        delete = cleanup.inventory.connector.delete_manifest

        async def delete_and_die(repository, digest):
            await delete(repository, digest)
            os.kill(os.getpid(), signal.SIGKILL)

        cleanup.inventory.connector.delete_manifest = delete_and_die  # type: ignore[method-assign]  # dies
        await cleanup.apply(int(plan_id))


async def test_a_killed_process_is_taken_up_by_another_one(tmp_path):
    address = f"sqlite:///{tmp_path / 'inventory.sqlite3'}"
    async with cleaning(content_of_three(), Behaviour(), address) as cleanup:
        await cleanup.crawl()
        await cleanup.others.head_manifest("app", "2.0")
        await cleanup.drain()
        plan_id = await cleanup.save(cleanup.plan(cleanup.select("app:glob:1*")), "ann")
        cleanup.database.close()
        command = [sys.executable, "-c", VICTIM, cleanup.registry.url, address, str(plan_id)]
        root = Path(__file__).parents[2]
        ended = await asyncio.to_thread(
            subprocess.run, command, cwd=root, capture_output=True, text=True, timeout=60, check=False
        )
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        assert len(cleanup.sent()) == 1
        cleanup.reopen(address)
        assert cleanup.states(plan_id).count("intended") == 1
        await check_taken_up(cleanup, plan_id)
