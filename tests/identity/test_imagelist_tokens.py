"""imagelist's own tokens file is read as imagelist read it, but for what let the wrong ones in."""

from __future__ import annotations

from pathlib import Path

import pytest

from regwarden.errors import InputError
from regwarden.identity.tokens_file import TokensFile, parse_imagelist_tokens

FILE = """
version: 2
tokens:
  - {name: ci, token: first, is_disabled: false, description: the pipeline, owner: us}
  - {name: old, token: second, is_disabled: true}
  - {name: older, token: third, is_disabled: Yes}
  - {token: 0123}
  - {name: "", token: "with spaces ü"}
  - {name: "a\\tb", token: fifth, is_disabled: null, role: admin}
  - {name: nothing}
  - {name: empty, token: ""}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tokens.yaml"


@pytest.mark.parametrize(
    ("token", "name"),
    [
        ("first", "ci"),
        ("second", None),
        ("third", None),
        ("0123", "token 4"),
        ("83", None),
        ("with spaces ü", "token 5"),
        ("fifth", "ab"),
        ("", None),
        ("First", None),
    ],
)
def test_only_token_and_is_disabled_matter(file, token, name):
    file.write_text(FILE, encoding="utf-8")
    tokens = TokensFile(file, needs_roles=False)
    tokens.reload()
    found = tokens.find(token)
    assert (None if found is None else found.name) == name
    assert found is None or found.grants == ()


@pytest.mark.parametrize(
    "text", ["", "# nothing", "tokens:", "tokens: x", "other: []", "[]", "tokens: [x]", "tokens: [{token: [1]}]", "{"]
)
def test_what_cannot_be_used_keeps_the_tokens_read_before(file, text):
    file.write_text(FILE, encoding="utf-8")
    tokens = TokensFile(file, needs_roles=False)
    tokens.reload()
    file.write_text(text)
    tokens.reload()
    assert tokens.find("first") is not None


def test_an_empty_list_and_a_missing_file_have_no_tokens(file):
    tokens = TokensFile(file, needs_roles=False)
    tokens.reload()
    assert tokens.find("first") is None
    file.write_text(FILE, encoding="utf-8")
    tokens.reload()
    file.write_text("tokens: []")
    tokens.reload()
    assert tokens.find("first") is None
    file.write_text(FILE, encoding="utf-8")
    tokens.reload()
    file.unlink()
    tokens.reload()
    assert tokens.find("first") is None


def test_no_mistake_repeats_a_token():
    for text in ("tokens: [{token: s3cret, is_disabled: s3cret}]", "tokens: [s3cret", "s3cret: {"):
        with pytest.raises(InputError) as caught:
            parse_imagelist_tokens(text.encode())
        assert "s3cret" not in caught.value.message + caught.value.hint
