"""Start-up, exit codes and what a failure looks like, as a shell sees them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gproxy import __version__
from tests.cli.conftest import Run

HEAVY = ("rich.table", "quart", "aiohttp", "tomlkit", "sqlite_utils", "httpx", "hypercorn", "keyring")


def python(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *argv], capture_output=True, text=True)


@pytest.mark.parametrize("argument", ["--version", "--help"])
def test_start_up_imports_nothing_heavy(argument: str) -> None:
    program = (
        "import sys; from gproxy.cli.main import main; code = main([sys.argv[1]]);"
        f"print([name for name in {HEAVY!r} if name in sys.modules], code)"
    )
    assert python("-c", program, argument).stdout.splitlines()[-1] == "[] 0"


@pytest.mark.parametrize("module", ["gproxy", "gproxy.cli.main"])
@pytest.mark.parametrize("argv", [("--version",), ("--version", "--help")])
def test_the_version_is_printed_by_either_module(module: str, argv: tuple[str, ...]) -> None:
    ran = python("-m", module, *argv)
    assert (ran.returncode, ran.stdout) == (0, f"gproxy {__version__}\n")


@pytest.mark.parametrize("argv", [("nope",), ("keys", "nope"), ("keys", "revoke"), ("check", "--nope"), ()])
def test_wrong_usage_is_exit_2(run: Run, argv: tuple[str, ...]) -> None:
    assert run(*argv).code == 2


@pytest.mark.parametrize("argv", [("serve",), ("check",), ("keys", "create"), ("usage",), ("config", "edit")])
def test_without_a_file_one_sentence_names_the_ways_out(run: Run, argv: tuple[str, ...]) -> None:
    ran = run(*argv)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == (
        "gproxy: no configuration file at gproxy.toml: `gproxy init` makes one, "
        "`gproxy serve --demo` tries gproxy without one\n"
    )


def test_a_terminal_without_unicode_is_served(run: Run, file: Path) -> None:
    run("keys", "create")
    ran = subprocess.run(
        [sys.executable, "-m", "gproxy", "keys", "list", "--config", str(file)],
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "op_?" in ran.stdout


def test_a_reader_that_leaves_is_no_error_of_ours(file: Path) -> None:
    program = f"{sys.executable} -m gproxy config show --config {file} | head -c 1"
    ran = subprocess.run(["bash", "-c", program], capture_output=True, text=True)
    assert (ran.stdout, ran.stderr) == ("[", "")


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a = ", b"users = 3\n"])
def test_a_broken_file_is_told_without_a_traceback(run: Run, file: Path, content: bytes) -> None:
    file.write_bytes(content)
    for argv in (("check",), ("keys", "list"), ("users", "add", "bob"), ("config", "show"), ("serve",)):
        ran = run(*argv)
        assert ran.code == 1
        assert "Traceback" not in ran.err
        assert ran.err.splitlines()[-1].startswith("gproxy: ")
    assert file.read_bytes() == content
