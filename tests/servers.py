"""Where real servers for tests come from: found on the machine, started on loopback, stopped again."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parent.parent
IS_CI = os.environ.get("CI", "").lower() in {"1", "true", "yes"}
START_TIMEOUT_SECONDS = 30.0


def require_binary(name: str, package: str = "") -> Path:
    """The path of a program that Debian's ``package`` installs.

    Absent, the test is a visible skip that names the command to run; in CI (``CI=true``) it is a failure.
    """
    found = shutil.which(name)
    if found is None:
        missing_server(f"{name} (package {package or name}) is not installed: run `make servers`")
    return Path(found)


def missing_server(reason: str) -> NoReturn:
    """Skip the test, or fail it in CI, where `make servers` has run."""
    if IS_CI:
        pytest.fail(f"{reason}; in CI this is a failure", pytrace=False)
    pytest.skip(reason)


def find_distribution3() -> Path:
    """The ``registry`` program of Distribution 3.x; absent, always a visible skip, for no package has it."""
    named = os.environ.get("REGWARDEN_DISTRIBUTION3", "")
    candidates = [named, str(ROOT / ".tools" / "bin" / "registry"), shutil.which("registry") or ""]
    for candidate in candidates:
        if candidate and os.access(candidate, os.X_OK):
            return Path(candidate)
    pytest.skip(
        "Distribution 3.x is not at hand: run `make distribution3` (needs Go), which does "
        "`go install github.com/distribution/distribution/v3/cmd/registry@v3.1.1`, or set REGWARDEN_DISTRIBUTION3"
    )


def wait_until(check: Callable[[], bool], *, what: str, timeout_seconds: float = START_TIMEOUT_SECONDS) -> None:
    """Ask ``check`` until it is true; fails the test after ``timeout_seconds``."""
    deadline = time.monotonic() + timeout_seconds
    while not check():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {timeout_seconds:.0f} s in vain for {what}", pytrace=False)
        time.sleep(0.02)


def answers_http(url: str) -> bool:
    """Whether anything, an error status included, answers at ``url`` (certificates are not checked)."""
    context = ssl._create_unverified_context() if url.startswith("https:") else None
    try:
        with urllib.request.urlopen(url, timeout=5, context=context):
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return True
    except OSError as error:
        # A server that demands a client certificate is up as well.
        return isinstance(getattr(error, "reason", None), ssl.SSLError)


def end_process(process: subprocess.Popen[bytes], *, timeout_seconds: float = 10.0) -> None:
    """Stop a process that a test started: politely, then not."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(timeout_seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(timeout_seconds)
