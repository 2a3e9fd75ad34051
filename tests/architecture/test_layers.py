"""Are the layers kept: imports, SQL, asynchronous code, blind excepts each in their place?"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.architecture.source_tree import ROOT, modules

SQL = re.compile(
    r"\b(SELECT\s.+\sFROM|INSERT\s+INTO|UPDATE\s+\S+\s+SET|DELETE\s+FROM|PRAGMA\s+\w|VACUUM|"
    r"(CREATE|DROP|ALTER)\s+(TABLE|INDEX|VIEW|SCHEMA|DATABASE))\b",
    re.DOTALL,
)

# An unforeseen error may be caught at these boundaries alone; each hands it on or says it, none forgets it.
BLIND_EXCEPTS = {
    "cli/failures.py": "no traceback reaches a user",
    "flows/ingest.py": "what is stored is applied some time, whatever goes wrong meanwhile",
    "jobs/runner.py": "what fails in the background is logged and tried again, and nothing else stops for it",
    "store/writer.py": "the writer thread hands every failure to the caller that waits for it",
    "testing/threads.py": "a server's thread hands its failure to the thread that started it",
    "web/operations.py": "nobody awaits an operation's task: what went wrong is logged and is its state",
}

# Where libraries may be named that are slow to load, or that speak with those outside.
LIBRARIES = {
    "fastapi": ("web/api/",),
    "pydantic": ("web/api/",),
    "starlette": ("web/", "service_web.py"),
    "uvicorn": ("web/",),
    "httptools": ("web/",),
    "ldap3": ("identity/",),
    "joserfc": ("identity/", "web/login_cookie.py"),
    "cryptography": ("identity/", "web/login_cookie.py"),
    "watchfiles": ("identity/", "web/"),
}


def test_every_arrow_between_modules_points_down():
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    checked = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_sql_is_written_in_the_store_only():
    found = [
        f"{module.name}:{line}: {text[:60]!r}"
        for module in modules()
        if not module.name.startswith("store/")
        for line, text in module.strings()
        if SQL.search(text)
    ]
    assert found == []


def test_libraries_that_serve_and_sign_in_are_named_in_their_places_only():
    found = [
        f"{module.name}: {name}"
        for module in modules()
        for name in _imported(module.tree)
        if not module.name.startswith(LIBRARIES.get(name, ("",)))
    ]
    assert found == []


def _imported(tree: ast.Module) -> set[str]:
    names = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level}
    names |= {one.name for node in ast.walk(tree) if isinstance(node, ast.Import) for one in node.names}
    return {name.partition(".")[0] for name in names}


def test_nothing_in_core_is_asynchronous():
    found = [
        f"{module.name}:{node.lineno}"
        for module in modules()
        if module.name.startswith("core/")
        for node in ast.walk(module.tree)
        if isinstance(node, (ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith, ast.Await))
    ]
    assert found == []


def test_an_error_nobody_foresaw_is_swallowed_nowhere_but_at_the_named_boundaries():
    found = {
        module.name
        for module in modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ExceptHandler) and _is_blind(node) and not _raises_again(node)
    }
    assert found == set(BLIND_EXCEPTS)


def _is_blind(handler: ast.ExceptHandler) -> bool:
    caught = handler.type
    names = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    return any(
        name is None or (isinstance(name, ast.Name) and name.id in {"Exception", "BaseException"}) for name in names
    )


def _raises_again(handler: ast.ExceptHandler) -> bool:
    return any(isinstance(node, ast.Raise) for node in ast.walk(handler))
