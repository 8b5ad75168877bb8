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
        "models": {"list", "prices", "price"},
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


@pytest.mark.parametrize("path", [p for p, c in COMMANDS.items() if hasattr(c, "commands")], ids=" ".join)
def test_a_list_of_commands_has_a_line_for_each(run: Run, path: tuple[str, ...]) -> None:
    lines = run(*path[1:], "--help").out.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in lines] == list(COMMANDS[path].commands)
    assert all(line.endswith(".") and not line.endswith("...") for line in lines)


def test_wrong_usage_of_a_command_shows_how_it_is_used(run: Run) -> None:
    ran = run("serve", "--nope")
    assert ran.code == 2
    assert "Usage: gproxy serve [OPTIONS]" in ran.err
    assert "--nope" in ran.err
