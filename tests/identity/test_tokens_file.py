"""The tokens file: read as written, read again when it changes in any way, kept when it is broken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regwarden.core.access import Grant, Role
from regwarden.core.grants import build_grants
from regwarden.errors import InputError
from regwarden.identity.tokens_file import MAX_FILE_BYTES, TokensFile, parse_tokens_file

ONE = b"tokens: [{name: ci, token: first, role: viewer}]\n"
TWO = b"tokens: [{name: ci, token: second, role: viewer}]\n"

IMAGELISTS = b"""
tokens:
  - name: build
    token: "abc"
    is_disabled: false
    description: the build server
  - name: old
    token: def
    is_disabled: true
  - token: "ghi"
"""


@asynccontextmanager
async def watched(file: TokensFile) -> AsyncIterator[None]:
    task = asyncio.create_task(file.watch())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not is_so():
            await asyncio.sleep(0.02)


def test_imagelists_form_is_read() -> None:
    found = parse_tokens_file(IMAGELISTS)
    assert [(one.name, one.grants) for one in found] == [("build", ()), ("token 3", ())]


def test_roles_and_grants_are_read() -> None:
    content = b"""
tokens:
  - {name: a, token: a, role: admin}
  - {name: b, token: b, grants: [{role: cleaner, repositories: ['glob:team/**']}]}
"""
    assert [one.grants for one in parse_tokens_file(content)] == [
        (Grant(Role.ADMIN),),
        tuple(build_grants(["cleaner"], (), ["glob:team/**"])),
    ]


@pytest.mark.parametrize(
    "content",
    [
        b"tokens: [",
        b"\xff",
        b"[]",
        b"secret",
        b"token: [{name: a, token: secret}]",
        b"tokens: {a: secret}",
        b"tokens: [secret]",
        b"tokens: [{name: a}]",
        b"tokens: [{name: a, token: 123}]",
        b"tokens: [{name: a, token: ''}]",
        b"tokens: [{name: '', token: secret}]",
        b'tokens: [{name: "a\\nb", token: secret}]',
        b"tokens: [{name: a, token: secret, is_disabled: 'no'}]",
        b"tokens: [{name: a, token: secret, disabled: true}]",
        b"tokens: [{name: a, token: secret, role: root}]",
        b"tokens: [{name: a, token: secret, role: viewer, grants: []}]",
        b"tokens: [{name: a, token: secret, grants: [viewer]}]",
        b"a: &a [x]\ntokens: " + b"[" * 3000,
    ],
)
def test_what_cannot_be_used_is_refused_without_repeating_a_secret(content: bytes) -> None:
    with pytest.raises(InputError) as raised:
        parse_tokens_file(content)
    assert raised.value.code == "bad-tokens-file"
    assert "secret" not in raised.value.message


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: f"tokens: [{{name: a, token: {text}}}]".encode()))
def test_any_content_is_read_or_refused(content: bytes) -> None:
    with suppress(InputError):
        parse_tokens_file(content)


@pytest.mark.parametrize("content", [b"", b"# nothing\n", b"tokens:\n", b"tokens: []\n"])
def test_an_empty_file_has_no_tokens(content: bytes) -> None:
    assert parse_tokens_file(content) == ()


def test_a_token_is_found_by_its_text_alone(tmp_path: Path) -> None:
    path = tmp_path / "tokens.yaml"
    path.write_bytes(ONE)
    file = TokensFile(path)
    assert file.find("first") is None, "nothing is read before it is asked for"
    file.reload()
    found = file.find("first")
    assert found is not None
    assert found.name == "ci"
    assert "first" not in repr(found)
    for text in ("", "fi", "first ", "ci", "\udcff"):
        assert file.find(text) is None


def test_a_mistake_keeps_the_tokens_and_a_missing_file_has_none(tmp_path: Path) -> None:
    path = tmp_path / "tokens.yaml"
    path.write_bytes(ONE)
    file = TokensFile(path)
    file.reload()
    for broken in (b"tokens: [", b"x" * (MAX_FILE_BYTES + 1)):
        path.write_bytes(broken)
        file.reload()
        assert file.find("first")
    path.unlink()
    path.mkdir()
    file.reload()
    assert file.find("first"), "it cannot be read"
    path.rmdir()
    file.reload()
    assert file.find("first") is None
    path.write_bytes(ONE)
    file.reload()
    assert file.find("first")


async def test_a_file_that_is_written_replaced_removed_and_made_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "tokens.yaml"
    path.write_bytes(ONE)
    file = TokensFile(path)
    async with watched(file):
        await until(lambda: file.find("first") is not None)
        path.write_bytes(TWO)
        await until(lambda: file.find("second") is not None)
        assert file.find("first") is None
        beside = tmp_path / ".tokens.yaml.swp"
        beside.write_bytes(ONE)
        beside.replace(path)
        await until(lambda: file.find("first") is not None)
        path.unlink()
        await until(lambda: file.find("first") is None)
        path.write_bytes(TWO)
        await until(lambda: file.find("second") is not None)


async def test_a_config_map_that_is_swapped_is_read_again(tmp_path: Path) -> None:
    """As the kubelet does it: the file is a link into ..data, a link that is replaced by renaming another over it."""
    for name, content in (("..one", ONE), ("..two", TWO)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tokens.yaml").write_bytes(content)
    (tmp_path / "..data").symlink_to("..one")
    (tmp_path / "tokens.yaml").symlink_to("..data/tokens.yaml")
    file = TokensFile(tmp_path / "tokens.yaml")
    async with watched(file):
        await until(lambda: file.find("first") is not None)
        (tmp_path / "..data_tmp").symlink_to("..two")
        (tmp_path / "..data_tmp").replace(tmp_path / "..data")
        await until(lambda: file.find("second") is not None)
        assert file.find("first") is None


async def test_a_directory_that_comes_later_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regwarden.identity.tokens_file.LOOK_AGAIN_SECONDS", 0.05)
    file = TokensFile(tmp_path / "later" / "tokens.yaml")
    async with watched(file):
        await asyncio.sleep(0.1)
        (tmp_path / "later").mkdir()
        (tmp_path / "later" / "tokens.yaml").write_bytes(ONE)
        await until(lambda: file.find("first") is not None)
