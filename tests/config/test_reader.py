"""Single values: the type, bound or form that is wrong is named, at its place, and all of them at once."""

import tomllib
from datetime import UTC, datetime
from typing import Any

import pytest

from gproxy.config import schema
from gproxy.config.problems import Problem, Problems
from gproxy.config.reader import Reader


def read(struct: type[Any], text: str) -> tuple[Any, list[Problem]]:
    problems = Problems({})
    return Reader(problems).struct(struct, tomllib.loads(text), ()), problems.found


@pytest.mark.parametrize(
    ("struct", "text", "message"),
    [
        (schema.Global, 'port = "8787"', "must be a whole number, is a string"),
        (schema.Global, "port = true", "must be a whole number, is a boolean"),
        (schema.Global, "port = 8787.0", "must be a whole number, is a number"),
        (schema.Global, "port = 65536", "must be at most 65535"),
        (schema.Global, "port = -1", "must be at least 0"),
        (schema.Global, "max_body_bytes = 99999999999999999999", "must be at most 9223372036854775807"),
        (schema.Global, "enable_usage = 1", "must be true or false, is a whole number"),
        (schema.Global, "host = 1", "must be a string, is a whole number"),
        (schema.Global, 'host = "a\\u0007b"', "must not hold control characters"),
        (schema.Global, "quota_status = 403", "must be one of 402, 429"),
        (schema.Global, 'http_engine = "fats"', "must be one of fast, hypercorn"),
        (schema.Global, 'cors_origins = "x"', "must be an array, is a string"),
        (schema.Global, "cors_origins = [1]", "must be a string, is a whole number"),
        (schema.Global, 'cors_origins = [""]', "must not be empty"),
        (schema.Settings, "idle_timeout_s = nan", "must be a finite number"),
        (schema.Settings, "total_timeout_s = inf", "must be a finite number"),
        (schema.Settings, "idle_timeout_s = 0", "must be at least 0.01"),
        (schema.Settings, "idle_timeout_s = true", "must be a number, is a boolean"),
        (schema.Settings, 'protocols = ["smtp"]', f"must be one of {', '.join(schema.PROTOCOLS)}"),
        (schema.Settings, "headers = { a = 1 }", "must be a string, is a whole number"),
        (schema.Settings, "headers = []", "must be a table, is an array"),
        (schema.UserKey, "expires_at = 2027-01-01", "must be a date and time, is a date"),
        (schema.UserKey, "expires_at = 2027-01-01T00:00:00", "needs an offset"),
        (schema.UserKey, 'api_key_hash = "sha256:12"', "does not have the form sha256:[0-9a-f]{64}"),
        (schema.Provider, 'name = "A"\nchannel = "c"', "does not have the form [a-z0-9][a-z0-9_-]*"),
        (schema.Provider, 'name = "a"', "`channel` is missing"),
        (schema.Permission, 'user_name = "a"\nmodel_pattern = ""', "must not be empty"),
        (schema.Permission, 'user_name = "a"\nprovider_name = ""\nmodel_pattern = "*"', "must not be empty"),
        (schema.Provider, 'name = ""\nchannel = "c"', "does not have the form [a-z0-9][a-z0-9_-]*"),
        (schema.User, 'name = "a"\nkeys = {}', "must be an array, is a table"),
        (schema.User, 'name = "a"\nkeys = [1]', "must be a table, is a whole number"),
    ],
)
def test_a_wrong_value_is_named(struct: type[Any], text: str, message: str) -> None:
    _, problems = read(struct, text)
    assert [problem.message for problem in problems] == [message]


def test_right_values_are_taken_as_they_are() -> None:
    found, problems = read(
        schema.Settings, 'idle_timeout_s = 5\nprotocols = ["gemini"]\nheaders = { a = "b" }'
    )
    assert problems == []
    assert found == schema.Settings(idle_timeout_s=5.0, protocols=("gemini",), headers={"a": "b"})
    assert type(found.idle_timeout_s) is float


def test_a_moment_with_an_offset_is_taken() -> None:
    found, problems = read(schema.UserKey, "expires_at = 2027-01-01T02:00:00+02:00")
    assert problems == []
    assert found.expires_at == datetime(2027, 1, 1, tzinfo=UTC)


def test_all_problems_come_at_once() -> None:
    _, problems = read(schema.Global, 'port = "x"\nprot = 1\nworkers = 0\nlog_format = "xml"')
    assert {problem.path for problem in problems} == {"port", "prot", "workers", "log_format"}


def test_a_misspelt_key_gets_a_suggestion() -> None:
    _, problems = read(schema.Global, "prot = 1")
    assert problems == [Problem("error", 0, "prot", 'unknown key "prot"', 'did you mean "port"?')]


def test_no_problem_repeats_a_value_that_may_be_a_secret() -> None:
    text = 'api_key_hash = "op_secret"\napi_key = "se\\u0000cret"\nkey_hint = 5\nlabel = ["secret"]'
    _, problems = read(schema.UserKey, text)
    assert len(problems) == 4
    assert "secret" not in "".join(problem.render("f") for problem in problems)


def test_the_struct_knows_its_line() -> None:
    problems = Problems({("users", 0): 7})
    rows = Reader(problems).rows(schema.User, [{"name": "a"}], ("users",))
    assert rows == (schema.User(name="a", line=7),)


@pytest.mark.parametrize(
    ("hint", "given", "value"),
    [
        (int, "8080", 8080),
        (int, 8080, 8080),
        (bool, "true", True),
        (bool, "FALSE", False),
        (bool, "0", False),
        (str, "x", "x"),
        (tuple[str, ...], "a, b,", ("a", "b")),
        (tuple[str, ...], ("a", "b"), ("a", "b")),
    ],
)
def test_text_of_flags_and_variables_is_read_as_the_type_of_its_key(
    hint: Any, given: Any, value: Any
) -> None:
    problems = Problems({})
    assert Reader(problems).override(hint, given, schema.Key(help=""), ("--x",)) == value
    assert problems.found == []


@pytest.mark.parametrize(
    ("hint", "given"), [(int, "abc"), (int, "1.5"), (int, ""), (int, "9" * 30), (int, True), (bool, "yess")]
)
def test_misspelt_text_is_a_problem_of_its_flag(hint: Any, given: Any) -> None:
    problems = Problems({})
    assert Reader(problems).override(hint, given, schema.Key(help=""), ("--x",)) is None
    assert [problem.path for problem in problems.found] == ["--x"]
