from __future__ import annotations

import pytest

from regwarden.core.fields import ALIASES, FIELDS, FieldType, resolve_field
from regwarden.errors import InputError

SUFFIXES = {"_bytes": FieldType.BYTES, "_count": FieldType.COUNT, "_at": FieldType.TIME}


@pytest.mark.parametrize("noun", FIELDS)
def test_the_type_of_a_field_is_what_its_name_says(noun):
    for name, field in FIELDS[noun].items():
        assert field.name == name
        for suffix, kind in SUFFIXES.items():
            if name.endswith(suffix):
                assert field.type is kind
        assert field.title
        assert field.help.endswith(".")


@pytest.mark.parametrize("noun", FIELDS)
def test_every_field_is_found_by_its_name_in_any_spelling(noun):
    for name, field in FIELDS[noun].items():
        assert resolve_field(noun, name) is field
        assert resolve_field(noun, f" {name.upper().replace('_', '-')} ") is field


@pytest.mark.parametrize(
    ("noun", "alias", "name"),
    [
        ("tag", "size", "logical_bytes"),
        ("registry", "size", "logical_bytes"),
        ("manifest", "size", "logical_bytes"),
        ("blob", "size", "size_bytes"),
        ("tag", "created", "created_at"),
        ("repository", "age", "newest_created_at"),
        ("tag", "pulled", "pulled_at"),
        ("tag", "reference", "location"),
        ("tag", "name", "tag"),
        ("repository", "name", "repository"),
        ("registry", "name", "registry"),
    ],
)
def test_an_alias_means_the_field_people_think_of(noun, alias, name):
    assert resolve_field(noun, alias).name == name


def test_an_alias_never_hides_a_field():
    for noun, fields in FIELDS.items():
        assert not set(ALIASES) & set(fields), noun


def test_an_unknown_field_gets_the_nearest_name():
    with pytest.raises(InputError) as refusal:
        resolve_field("tag", "exclusiv")
    assert refusal.value.code == "unknown-field"
    assert "exclusive_bytes" in refusal.value.hint


def test_a_field_of_another_noun_is_unknown():
    with pytest.raises(InputError):
        resolve_field("blob", "created")
    with pytest.raises(InputError):
        resolve_field("manifest", "name")


def test_snapshot_figures_are_marked():
    marked = {noun: {name for name, field in fields.items() if field.is_graph} for noun, fields in FIELDS.items()}
    assert marked["tag"] == {"exclusive_bytes", "shared_bytes", "disk_bytes"}
    assert marked["manifest"] == {"exclusive_bytes"}
    assert not FIELDS["tag"]["logical_bytes"].is_graph
