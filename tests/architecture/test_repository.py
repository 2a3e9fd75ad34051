"""Is what is committed fit for strangers: documented modules, no traces of one machine, every dependency on record?"""

from __future__ import annotations

import ast
import re
import tomllib

from tests.architecture.source_tree import ROOT, modules, other_modules, tracked_files

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
MACHINE_PATH = re.compile(r"(?<![A-Za-z0-9_.~-])/(work|farm|root|home|Users)/[a-z]")
MAX_DOCSTRING_LINES = 8


def test_every_module_says_which_question_it_answers():
    silent = [
        module.name
        for module in (*modules(), *other_modules())
        # The folder and the names of the tests say what a test module is about.
        if not module.name.startswith("tests/")
        and module.tree.body
        and not (ast.get_docstring(module.tree) or "").strip()
    ]
    assert silent == []


def test_module_docstrings_are_short():
    long = {
        module.name: len(documentation.splitlines())
        for module in modules()
        if len((documentation := ast.get_docstring(module.tree) or "").splitlines()) > MAX_DOCSTRING_LINES
    }
    assert long == {}


def test_no_file_names_a_path_of_one_machine():
    found = []
    for path in tracked_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in MACHINE_PATH.finditer(text)]
    assert found == []


def test_every_link_between_pages_leads_somewhere():
    pages = [path for path in tracked_files() if path.suffix == ".md"]
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert broken == []


def test_every_dependency_has_a_line_in_the_record():
    recorded = set(_recorded_names())
    assert _declared_names() - recorded == set()


def test_the_record_names_no_dependency_that_is_gone():
    assert set(_recorded_names()) - _declared_names() == set()


def test_every_dependency_is_pinned_for_development_and_tests():
    text = (ROOT / "requirements" / "constraints.txt").read_text()
    pinned = {_normal(line.partition("==")[0]) for line in text.splitlines() if "==" in line}
    assert _declared_names() - pinned == set()
    assert "://" not in text


def test_uvloop_is_asked_for_only_where_it_exists():
    markers = [entry for entry in PROJECT["project"]["dependencies"] if entry.startswith("uvloop")]
    assert len(markers) == 1
    assert "sys_platform != 'win32'" in markers[0]


def _declared_names() -> set[str]:
    project = PROJECT["project"]
    groups = (
        PROJECT["build-system"]["requires"],
        project["dependencies"],
        *project["optional-dependencies"].values(),
        *PROJECT["dependency-groups"].values(),
    )
    return {_normal(entry) for group in groups for entry in group}


def _recorded_names() -> list[str]:
    text = (ROOT / "docs" / "dependencies.md").read_text()
    return [_normal(name) for name in re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)]


def _normal(entry: str) -> str:
    found = NAME.match(entry.strip())
    assert found, entry
    return re.sub(r"[-_.]+", "-", found[0]).lower()
