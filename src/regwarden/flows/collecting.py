"""How large is a registry's storage, and what does the operator's own command for collecting garbage do?

The command and the folder come from the settings alone; nothing that a registry says becomes part of either.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from regwarden.core.text import printable
from regwarden.errors import InputError

# Where Distribution keeps its blobs below its root directory (storage driver layout, version 2).
BLOBS: Final = ("docker", "registry", "v2", "blobs")
_MAX_OUTPUT_BYTES: Final = 64 * 1024
_PIECE_BYTES: Final = 8192
_ENDING_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageSize:
    """Bytes of all files below a blob store; ``None`` where it could not be read, ``problem`` says why."""

    size_bytes: int | None
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandRun:
    """What a command did. ``output`` is the end of what it printed; ``exit_status`` is ``None`` after a timeout."""

    command: tuple[str, ...]
    exit_status: int | None
    output: str
    is_shortened: bool


async def measure_storage(folder: Path) -> StorageSize:
    """The size of the blob store of the registry whose storage folder this is, in a thread of its own."""
    return await asyncio.to_thread(_measure, folder.joinpath(*BLOBS))


def _measure(folder: Path) -> StorageSize:
    """Links are not followed; what vanishes meanwhile counts nothing, what cannot be read makes the sum worthless."""
    problems: list[OSError] = []
    total = 0
    for place, _, names in os.walk(folder, onerror=problems.append):
        for name in names:
            try:
                found = os.lstat(os.path.join(place, name))  # noqa: PTH118 -- a million paths, as strings
            except FileNotFoundError:
                continue
            except OSError as error:
                problems.append(error)
                continue
            if stat.S_ISREG(found.st_mode):
                total += found.st_size
    lasting = [error for error in problems if not isinstance(error, FileNotFoundError) or error.filename == str(folder)]
    if lasting:
        return StorageSize(size_bytes=None, problem=f"{lasting[0].filename}: {lasting[0].strerror}")
    return StorageSize(size_bytes=total)


async def run_command(command: Sequence[str], *, timeout_seconds: float) -> CommandRun:
    """Run a program with its arguments, without a shell and without input, and take what it prints.

    After ``timeout_seconds``, or where the caller is cancelled, it is ended with everything it started. Raises
    ``InputError`` (code ``collect-command``) where it cannot be started.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(
            f"the collect_command {command[0]} cannot be started: {said}",
            hint="Correct collect_command in the settings of the registry.",
            code="collect-command",
        ) from None
    tail = _Tail()
    try:
        async with asyncio.timeout(timeout_seconds):
            await tail.take(process)
    except TimeoutError:
        await _end(process)
        return tail.run(command, None)
    except asyncio.CancelledError:
        await _end(process)
        raise
    return tail.run(command, process.returncode)


class _Tail:
    """The end of what a command prints."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._is_shortened = False

    async def take(self, process: asyncio.subprocess.Process) -> None:
        """Read until the command has ended, whatever the amount.

        A registry that it started in the background may hold the output open for ever.
        """
        stream = process.stdout
        while stream is not None:
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    piece = await stream.read(_PIECE_BYTES)
            except TimeoutError:
                if process.returncode is not None:
                    process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001 - asyncio has no public way
                    return
                continue
            if not piece:
                await process.wait()
                return
            self._kept += piece
            if len(self._kept) > _MAX_OUTPUT_BYTES:
                del self._kept[:-_MAX_OUTPUT_BYTES]
                self._is_shortened = True

    def run(self, command: Sequence[str], exit_status: int | None) -> CommandRun:
        """What came of the command."""
        lines = self._kept.decode(errors="replace").splitlines()
        output = "\n".join(printable(line, _MAX_OUTPUT_BYTES) for line in lines)
        return CommandRun(
            command=tuple(command), exit_status=exit_status, output=output, is_shortened=self._is_shortened
        )


async def _end(process: asyncio.subprocess.Process) -> None:
    """Politely first: a collection that is killed leaves a registry read-only that a script made so."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sent)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ENDING_SECONDS):
                await process.wait()
                return
