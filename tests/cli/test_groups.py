"""How groups find their commands, and that a command starts with no more than it needs."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from gproxy.cli.groups import Branch
from gproxy.cli.tree import TREE
from tests.cli.conftest import Run
from tests.cli.reference import commands

PROGRAM = """\
import json, os, sys, typer.main
before = set(sys.modules)
for argv in json.loads(sys.argv[1]):
    if not os.fork():
        told, sys.stdout = sys.stdout, sys.stderr
        from gproxy.cli.main import main
        main(argv)
        print(json.dumps([argv, sorted(set(sys.modules) - before)]), file=told, flush=True)
        os._exit(0)
    if os.wait()[1]:
        sys.exit(f"{argv} has failed")
"""


def imports(*commands: Sequence[str]) -> dict[tuple[str, ...], set[str]]:
    """The modules that each `gproxy …` imports beyond Typer's, which are some 230 and imported once for all."""
    program = [sys.executable, "-c", PROGRAM, json.dumps(commands)]
    told = subprocess.run(program, capture_output=True, text=True, check=True).stdout
    return {tuple(argv): set(modules) for argv, modules in map(json.loads, told.splitlines())}


HELPED = [path[1:] for path, _ in commands()]
GROUPS = [(), *((name,) for name, entry in TREE.commands.items() if isinstance(entry, Branch))]


@pytest.fixture(scope="module")
def helped() -> dict[tuple[str, ...], set[str]]:
    """What the help of each command and group imports."""
    return imports(*((*path, "--help") for path in (*HELPED, *GROUPS)))


@pytest.mark.parametrize("path", HELPED, ids=" ".join)
def test_help_imports_hardly_more_than_typer(
    path: tuple[str, ...], helped: dict[tuple[str, ...], set[str]]
) -> None:
    """So it starts within twice the time of `import typer`: with pydantic alone, 150 modules, it would not."""
    found = helped[*path, "--help"]
    assert len(found) < 40
    assert "gproxy.providers.catalog" not in found


@pytest.mark.parametrize("path", GROUPS, ids=" ".join)
def test_help_of_a_group_imports_no_command_but_its_default(
    path: tuple[str, ...], helped: dict[tuple[str, ...], set[str]]
) -> None:
    entry = TREE.commands[path[0]] if path else TREE
    assert isinstance(entry, Branch)
    found = {name for name in helped[*path, "--help"] if name.startswith("gproxy.cli.")}
    assert bool(entry.default) == (found != {"gproxy.cli.main", "gproxy.cli.tree", "gproxy.cli.groups"})


def test_a_command_with_text_paths_and_numbers_needs_no_pydantic(tmp_path: Path) -> None:
    file = tmp_path / "gproxy.toml"
    file.write_text("")
    command = ("logs", "list", "--user", "a", "--config", str(file))
    found = imports(command)[command]
    assert "gproxy.cli.logs" in found
    assert not {"pydantic", "gproxy.cli.usage", "gproxy.cli.serve"} & found


def test_a_number_that_is_none_or_out_of_bounds_is_wrong_usage(run: Run, file: Path) -> None:
    for given in ("x", "0", "1001", "-5"):
        ran = run("logs", "list", f"--limit={given}")
        assert ran.code == 2
        assert "--limit" in ran.err
    assert run("logs", "list", "--limit=1000").code == 0
    assert run("serve", "--port", "many").code == 2


@pytest.mark.parametrize(("group", "default"), [("usage", "report"), ("logs", "list")])
def test_a_default_needs_no_name_and_has_its_options_in_the_help_of_its_group(
    run: Run, file: Path, group: str, default: str
) -> None:
    assert run(group, "--json") == run(group, default, "--json")
    assert run(group, "--json").code == 0
    help = run(group, "--help").out
    assert f"Options of {default}:" in help
    assert "--user NAME" in help


def test_a_misspelt_command_is_answered_with_the_one_that_was_meant(run: Run) -> None:
    ran = run("key")
    assert ran.code == 2
    assert "Did you mean 'keys'?" in ran.err
    assert "Did you mean 'create'?" in run("keys", "creat").err


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


def test_the_script_for_the_shell_that_asks_is_shown() -> None:
    line = f"'{sys.executable}' -m gproxy.cli.main --show-completion; true"  # else bash becomes what it is to run
    asked = subprocess.run(("bash", "-c", line), capture_output=True, text=True, check=True)
    assert "_COMPLETE=complete_bash" in asked.stdout
