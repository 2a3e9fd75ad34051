"""One intent in eight languages: the translation of each removes what that system removes of the same eleven tags.

The intent: keep releases and the three newest builds of branches and pull requests, remove other builds older than a
week. Each document says it in the way that is natural in its system.
"""

from __future__ import annotations

import pytest

from regwarden.core.importers.api import Severity
from tests.imported_rules import Image, codes, imported, read, removed

# d1, d2, … are days since the push; a tag that was set later has its own age.
ELEVEN = (
    Image(1, {"latest": 1, "v1.1.1": 1}),
    Image(3, {"dev-5": 3}),
    Image(8, {"dev-4": 8}, pulled=3),
    Image(60, {"v1.0.0": 60, "pr-7": 10}),
    Image(12, {"dev-3": 12}),
    Image(20, {"v1.1.0": 20}),
    Image(40, {"v1.0.1": 40}),
    Image(45, {"dev-2": 45}),
    Image(50, {"dev-1": 50}),
)


@pytest.mark.parametrize(
    ("system", "document", "tags"),
    [
        ("harbor", "harbor.json", "dev-1 dev-2 dev-3"),
        ("gitlab", "gitlab.json", "dev-1 dev-2 dev-3"),
        # Counted in the whole package by upload: 1, 3 and 8 days. The release of v1.0.0 keeps pr-7.
        ("gar", "gar.json", "dev-1 dev-2 dev-3"),
        # The clock is the digest's, so pr-7 is 60 days old. Tags are judged one by one: v1.0.0 of the same image stays.
        ("zot", "zot.json", "dev-1 dev-2 pr-7"),
        # Age and count cannot be in one rule, so counts alone: 3 of dev-*, and pr-7 belongs to a release.
        ("ecr", "ecr.json", "dev-1 dev-2"),
        # The three newest of what would go, dev-4, pr-7 and dev-3, stay.
        ("acr", "acr.sh", "dev-1 dev-2"),
        # By upload dev-4, dev-3 and dev-2 are the newest candidates; the image of pr-7 goes with its release.
        ("gcr-cleaner", "gcr-cleaner-any.json", "dev-1 pr-7 v1.0.0"),
        ("gcr-cleaner", "gcr-cleaner-all.json", "dev-1"),
        ("gcr-cleaner", "gcr-cleaner.sh", "dev-1"),
        # The age policy alone takes everything older than a week, also what the count policy spares.
        ("quay", "quay.json", "dev-1 dev-2 dev-3 dev-4 pr-7"),
    ],
)
@pytest.mark.parametrize("says", ["its name", "auto"])
def test_a_translated_policy_removes_what_its_system_removes(system, document, tags, says):
    translated = imported(read(document), system if says == "its name" else "auto")
    assert translated.system == system
    assert removed(translated, ELEVEN, with_min_age=True) == set(tags.split())


@pytest.mark.parametrize(
    ("document", "traps"),
    [
        ("harbor.json", ["any-tag"] * 3),
        ("gitlab.json", []),
        ("gar.json", ["prefix-only", "prefix-only", "count-per-package"]),
        ("zot.json", ["digest-clock"]),
        ("ecr.json", []),
        ("acr.sh", ["counts-candidates"]),
        ("gcr-cleaner-any.json", ["counts-candidates", "deletes-siblings"]),
        ("quay.json", ["rules-unite"]),
    ],
)
def test_the_report_names_the_traps_of_the_original(document, traps):
    assert codes(imported(read(document), "auto"), Severity.TRAP) == traps
