import json
import tomllib
from pathlib import Path

import pytest

from tests.cli.conftest import MINIMAL, Run

LISTED = """
[[providers]]
name = "listed"
channel = "custom"
settings = { base_url = "http://127.0.0.1:2" }

[[models]]
provider_name = "listed"
model_id = "vendor/m"
display_name = "Em"

[[models]]
provider_name = "listed"
model_id = "off"
enabled = false
"""


def test_an_alias_is_set_set_again_listed_and_removed(run: Run, file: Path) -> None:
    assert run("alias", "set", "fast", "local/a").err == "fast is local/a.\n"
    assert run("alias", "set", "fast", "local/b/c", "local/d", "--strategy", "weighted").code == 0
    assert json.loads(run("alias", "list", "--json").out) == [
        {"alias": "fast", "targets": ["local/b/c", "local/d"], "strategy": "weighted", "enabled": True}
    ]
    assert "local/b/c, local/d" in run("alias", "list").out
    assert run("alias", "remove", "fast").code == 0
    assert file.read_text() == MINIMAL


@pytest.mark.parametrize("target", ["local", "local/", "/m", ""])
def test_a_target_that_is_no_provider_and_model_is_wrong_usage(run: Run, file: Path, target: str) -> None:
    ran = run("alias", "set", "fast", target)
    assert ran.code == 2
    assert "PROVIDER/MODEL" in ran.err
    assert file.read_text() == MINIMAL


def test_an_unknown_strategy_is_wrong_usage(run: Run, file: Path) -> None:
    assert run("alias", "set", "fast", "local/a", "--strategy", "luck").code == 2


def test_an_alias_of_an_unknown_provider_is_refused_with_the_problem(run: Run, file: Path) -> None:
    ran = run("alias", "set", "fast", "locl/a")
    assert ran.code == 1
    assert 'there is no provider "locl"' in ran.err
    assert file.read_text() == MINIMAL


def test_models_are_listed_by_the_names_that_clients_send(run: Run, file: Path) -> None:
    file.write_text(MINIMAL + LISTED)
    run("alias", "set", "fast", "listed/vendor/m")
    assert tomllib.loads(file.read_text())["model_aliases"][0]["model_id"] == "vendor/m"
    rows = json.loads(run("models", "list", "--json").out)
    assert [(row["id"], row["kind"], row["name"]) for row in rows] == [
        ("fast", "alias", "listed/vendor/m"),
        ("listed/vendor/m", "model", "Em"),
        ("local/*", "any id", ""),
    ]
