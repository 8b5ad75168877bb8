from typing import Any

import pytest

from gproxy.cli.root import serve_alone
from tests.cli.conftest import Run
from tests.cli.reference import commands

COMMANDS = dict(commands())


def test_serve_alone_is_the_same_command_as_in_the_tree() -> None:
    root: Any = serve_alone()
    (alone,) = root.commands.values()
    told = [
        each.get_help(each.make_context("gproxy serve", [], resilient_parsing=True))
        for each in (alone, COMMANDS["gproxy", "serve"])
    ]
    assert told[0] == told[1]


def test_wrong_usage_of_serve_is_told_as_that_of_any_command(run: Run) -> None:
    ran = run("serve", "--nope")
    assert ran.code == 2
    assert "Usage: gproxy serve [OPTIONS]" in ran.err
    assert "--nope" in ran.err


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("gproxy ke", {"keys"}), ("gproxy keys re", {"revoke"}), ("gproxy serve --log-", {"--log-format"})],
)
def test_a_shell_completes_commands_and_options(
    run: Run, monkeypatch: pytest.MonkeyPatch, typed: str, offered: set[str]
) -> None:
    monkeypatch.setenv("_GPROXY_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split()) - 1))
    assert offered <= set(run().out.split())


def test_the_script_for_a_shell_is_shown(run: Run) -> None:
    assert "_GPROXY_COMPLETE=complete_bash" in run("--show-completion", "bash").out
