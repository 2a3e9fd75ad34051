"""Does the source speak the glossary's words, and only one word for each idea?"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import PurePosixPath

import pytest

from tests.architecture.source_tree import Module, modules

# Never part of any name.
NOWHERE = {"whitelist", "blacklist", "whitelisted", "blacklisted"}
# Never the whole name of a module, class, function or argument: they say nothing about what the thing is.
NOT_ALONE = {"base", "common", "data", "helper", "helpers", "info", "item", "items", "manager", "misc", "stuff"} | {
    "util",
    "utils",
}
# Never the last word of a class.
NOT_AS_SUFFIX = {"Data", "Helper", "Info", "Item", "Manager", "Util", "Utils"}
# (module, name): why the word is right there
ALLOWED: dict[tuple[str, str], str] = {
    ("testing/company.py", "base"): "a base image, as everybody who builds images calls it",
    ("testing/company_services.py", "base"): "the same",
    ("testing/company_services.py", "Base"): "the same",
}


def _words(name: str) -> list[str]:
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]


def _names(module: Module) -> Iterator[tuple[str, str]]:
    path = PurePosixPath(module.name)
    yield "module", path.parent.name if path.stem == "__init__" else path.stem
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ClassDef):
            yield "class", node.name
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield "function", node.name
        elif isinstance(node, ast.arg):
            yield "argument", node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield "name", node.id
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield "field", node.target.id


def _objection(kind: str, name: str) -> str:
    words = _words(name)
    if NOWHERE & set(words):
        return "is not a word of ours"
    if name.strip("_").lower() in NOT_ALONE:
        return "says nothing"
    if kind == "class" and any(name.endswith(suffix) for suffix in NOT_AS_SUFFIX):
        return "ends in a word that says nothing"
    return ""


def test_names_are_words_of_the_glossary():
    found = {
        f"{module.name}: {kind} {name} {objection}"
        for module in modules()
        for kind, name in _names(module)
        if (objection := _objection(kind, name)) and (module.name, name) not in ALLOWED
    }
    assert found == set()


def test_every_allowed_word_still_stands_where_it_was_allowed():
    present = {(module.name, name) for module in modules() for _, name in _names(module)}
    assert set(ALLOWED) <= present


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("argument", "whitelist_path"),
        ("module", "utils"),
        ("class", "TagManager"),
        ("name", "_data"),
        ("class", "Info"),
    ],
)
def test_the_check_objects_to_a_forbidden_word(kind, name):
    assert _objection(kind, name)


@pytest.mark.parametrize(("kind", "name"), [("function", "load_tags"), ("class", "Database"), ("argument", "metadata")])
def test_the_check_lets_good_names_pass(kind, name):
    assert not _objection(kind, name)
