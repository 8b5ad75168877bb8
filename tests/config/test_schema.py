"""The table of keys is sound: what is made from it (docs, --help, validation) can rely on it."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from gproxy.config import schema
from tests.config.reference import TABLES, reference, structs

STRUCTS = [
    schema.Global,
    schema.Settings,
    schema.Credential,
    schema.Provider,
    schema.PriceTier,
    schema.Model,
    schema.AliasTarget,
    schema.ModelAlias,
    schema.UserKey,
    schema.User,
    schema.Permission,
    schema.RateLimit,
    schema.Quota,
]


@pytest.mark.parametrize("struct", STRUCTS)
def test_every_key_has_help_and_a_default_within_its_bounds(struct: type[Any]) -> None:
    for field in dataclasses.fields(struct):
        if field.name in ("line", "service_account"):  # no keys of the file
            continue
        key = schema.keys_of(struct)[field.name]
        assert key.help
        if key.choices and isinstance(field.default, str | int):
            assert str(field.default) in key.choices
        if isinstance(field.default, int | float):
            assert key.low is None or field.default >= key.low
            assert key.high is None or field.default <= key.high


@pytest.mark.parametrize("struct", STRUCTS)
def test_no_struct_shows_a_secret_when_it_is_printed(struct: type[Any]) -> None:
    for field in dataclasses.fields(struct):
        if field.name in ("api_key", "password", "proxy", "headers"):
            assert not field.repr


@pytest.mark.parametrize("struct", [schema.UserKey, schema.RateLimit])
def test_users_and_keys_have_the_same_bounds(struct: type[Any]) -> None:
    assert set(schema.keys_of(struct)) >= set(schema.BOUNDS)


def test_each_set_of_headers_is_its_own() -> None:
    assert schema.Settings().headers == {}
    assert schema.Settings().headers is not schema.Settings().headers


def test_the_reference_is_that_of_the_schema() -> None:
    text = reference()
    assert Path("docs/configuration.md").read_text("utf-8") == text, "python -m tests.config.reference"
    for struct in STRUCTS:
        for name in schema.keys_of(struct):
            assert f"| `{name}` |" in text


def test_the_reference_has_every_table_of_the_file() -> None:
    assert {struct for _, struct, _ in TABLES} == set(structs())
