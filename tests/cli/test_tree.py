from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run
from tests.cli.reference import commands, reference

COMMANDS = dict(commands())


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_help_that_fits_80_columns(run: Run, path: tuple[str, ...]) -> None:
    ran = run(*path[1:], "--help")
    assert ran.code == 0
    assert f"Usage: {' '.join(path)} " in ran.out
    assert COMMANDS[path].help
    assert max(map(len, ran.out.splitlines())) <= 80


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_option_and_argument_has_help(path: tuple[str, ...]) -> None:
    missing = [p.name for p in COMMANDS[path].params if not getattr(p, "help", None)]
    assert not missing


@pytest.mark.parametrize("path", [p for p, c in COMMANDS.items() if not hasattr(c, "commands")], ids=" ".join)
def test_every_command_takes_config_and_every_list_json(path: tuple[str, ...]) -> None:
    options = {option for parameter in COMMANDS[path].params for option in parameter.opts}
    if path[1:] not in (("service", "uninstall"), ("service", "status")):  # of one service there is
        assert "--config" in options
    if path[-1] in ("list", "show", "report", "check", "create", "rotate", "explain", "doctor"):
        assert "--json" in options


def test_the_commands_are_those_of_the_contract() -> None:
    leaves: dict[str, set[str]] = {}
    for path, command in COMMANDS.items():
        if not hasattr(command, "commands"):
            leaves.setdefault(" ".join(path[1:-1]), set()).add(path[-1])
    assert leaves == {
        "": {"init", "serve", "check", "explain", "top", "env", "run", "doctor"},
        "import": {"litellm", "env", "gproxy-v1"},
        "config": {"show", "path", "edit"},
        "providers": {"add", "list", "remove", "set-key", "test"},
        "keys": {"create", "add", "list", "disable", "enable", "revoke", "rotate", "hash"},
        "users": {"add", "list", "disable", "enable", "remove"},
        "permissions": {"allow", "list", "remove"},
        "limits": {"set", "list", "remove"},
        "quota": {"set", "top-up", "show"},
        "credentials": {"list", "reset"},
        "alias": {"set", "list", "remove"},
        "models": {"list", "prices"},
        "logs": {"list", "show", "clear"},
        "usage": {"report", "export", "prune", "reprice", "verify"},
        "service": {"install", "uninstall", "status"},
    }


def test_the_reference_is_that_of_the_commands() -> None:
    assert Path("docs/cli.md").read_text() == reference(), "python -m tests.cli.reference > docs/cli.md"


def test_a_bare_group_shows_its_commands(run: Run) -> None:
    ran = run("keys")
    assert ran.code == 2
    assert "rotate" in ran.out + ran.err


def params(command: Any) -> set[str]:
    return {parameter.name for parameter in command.params}


def test_serve_has_a_flag_for_every_global_key() -> None:
    from gproxy.config.schema import Global, keys_of

    assert params(COMMANDS["gproxy", "serve"]) >= set(keys_of(Global)) | {"demo", "config"}


def test_the_list_of_commands_breaks_off_no_sentence(run: Run) -> None:
    assert "..." not in run("--help").out.partition("Commands:")[2]
