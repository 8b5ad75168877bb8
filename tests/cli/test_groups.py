"""How groups find their commands, and that a command starts with no more than it needs."""

import subprocess
import sys
from pathlib import Path

import pytest

from gproxy.cli.groups import Branch
from gproxy.cli.tree import TREE
from tests.cli.conftest import Run
from tests.cli.reference import commands

GROUPS = [name for name, entry in TREE.commands.items() if isinstance(entry, Branch)]

PROGRAM = """\
import sys, typer.main
before = set(sys.modules)
from gproxy.cli.main import main
main(sys.argv[1:])
print(*sorted(set(sys.modules) - before), sep="\\n", file=sys.stderr)
"""


def imported(*argv: str) -> set[str]:
    """The modules that `gproxy …` imports beyond Typer's, which are some 230."""
    told = subprocess.run([sys.executable, "-c", PROGRAM, *argv], capture_output=True, text=True, check=True)
    return set(told.stderr.split())


@pytest.mark.parametrize("path", [path[1:] for path, _ in commands()], ids=" ".join)
def test_help_imports_hardly_more_than_typer(path: tuple[str, ...]) -> None:
    """So it starts within twice the time of `import typer`: with pydantic alone, 150 modules, it would not."""
    found = imported(*path, "--help")
    assert len(found) < 40
    assert "gproxy.providers.catalog" not in found


@pytest.mark.parametrize("path", [(), *((name,) for name in GROUPS)], ids=" ".join)
def test_help_of_a_group_imports_no_command_but_its_default(path: tuple[str, ...]) -> None:
    entry = TREE.commands[path[0]] if path else TREE
    assert isinstance(entry, Branch)
    found = {name for name in imported(*path, "--help") if name.startswith("gproxy.cli.")}
    assert bool(entry.default) == (found != {"gproxy.cli.main", "gproxy.cli.tree", "gproxy.cli.groups"})


def test_a_command_with_text_paths_and_numbers_needs_no_pydantic(tmp_path: Path) -> None:
    file = tmp_path / "gproxy.toml"
    file.write_text("")
    found = imported("logs", "list", "--user", "a", "--config", str(file))
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


def test_the_script_for_a_shell_is_shown(run: Run) -> None:
    assert "_GPROXY_COMPLETE=complete_bash" in run("--show-completion", "bash").out
