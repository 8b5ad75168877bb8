import json
import shlex

import pytest

from gproxy.cli import templates
from gproxy.cli.providers import Secret
from gproxy.config.load import load
from gproxy.providers.catalog import CHANNELS

KEY = "op_test"


@pytest.mark.parametrize(
    "providers",
    [
        templates.DEMO_PROVIDER,
        templates.NO_PROVIDER,
        templates.provider("a", "custom", 'http://h/"q"', Secret("api_key", "back\\slash")),
        templates.provider("a", "openai", None, None),
    ],
)
def test_what_is_written_loads_without_an_error(providers: str) -> None:
    text = templates.first_file(providers, KEY)
    _, problems = load(text.encode(), channels=CHANNELS)
    assert not [problem for problem in problems if problem.severity == "error"]
    assert KEY not in text
    assert max(map(len, text.splitlines())) <= 110


def test_an_alias_stands_in_the_first_file() -> None:
    text = templates.first_file(templates.DEMO_PROVIDER, KEY, ("chat", "demo", "echo-1"))
    config, problems = load(text.encode(), channels=CHANNELS)
    assert problems == []
    assert config is not None
    assert [(row.alias, row.model_id) for row in config.model_aliases] == [("chat", "echo-1")]


def test_what_is_pasted_has_the_key_once_and_names_the_file() -> None:
    lines = templates.pastes(KEY, " --config 'a b.toml'", None).splitlines()
    assert [KEY in line for line in lines] == [True, False, False, False, False, False]
    assert all("--config 'a b.toml'" in line for line in lines[1:])
    assert shlex.split(lines[-1], comments=True)[-1] == "codex"


def test_clients_that_would_ask_for_a_model_of_their_makers_are_told_one() -> None:
    *_, claude, codex = templates.pastes(KEY, "", "it's/m").splitlines()
    assert shlex.split(claude, comments=True) == ["ANTHROPIC_MODEL=it's/m", "gproxy", "run", "--", "claude"]
    assert shlex.split(codex, comments=True) == ["gproxy", "run", "--", "codex", "-m", "it's/m"]


def test_the_demo_file_loads_without_a_problem() -> None:
    assert load(templates.demo_file(KEY).encode(), channels=CHANNELS)[1] == []


def test_the_curl_lines_are_one_command_each() -> None:
    argv = shlex.split(templates.chat_curl("http://h:1", KEY))
    assert argv[:2] == ["curl", "http://h:1/v1/chat/completions"]
    assert json.loads(argv[-1])["model"].startswith("demo/")
    odd = shlex.split(templates.chat_curl("http://h:1", KEY, 'it\'s "odd"'))
    assert json.loads(odd[-1])["model"] == 'it\'s "odd"'
    assert shlex.split(templates.list_curl("http://h:1", KEY))[-1] == f"Authorization: Bearer {KEY}"
