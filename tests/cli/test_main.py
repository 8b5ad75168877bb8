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
        "gproxy: no configuration file at gproxy.toml: `gproxy init` makes one, `gproxy init --demo` one of the "
        "offline demo; `gproxy serve --demo` runs without, and leaves nothing to look at\n"
    )


def test_without_a_file_a_misspelt_variable_is_told_of(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPROXY_CONFGI", "canary.toml")
    monkeypatch.setenv("GPROXY_ZZZ", "of a credential, maybe")
    ran = run("usage")
    assert ran.code == 1
    assert (
        'GPROXY_CONFGI: there is no such variable, and it has no effect; did you mean "GPROXY_CONFIG"?'
        in ran.err
    )
    assert "no configuration file at gproxy.toml" in ran.err
    assert "canary" not in ran.err
    assert "GPROXY_ZZZ" not in ran.err


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


def test_an_output_that_nobody_reads_ends_it_as_sigpipe_would(file: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        program = (sys.executable, "-m", "gproxy", "config", "show", "--config", str(file))
        ran = subprocess.run(program, stdout=stream, stderr=subprocess.PIPE)
    assert (ran.returncode, ran.stderr) == (141, b"")


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a = ", b"users = 3\n"])
def test_a_broken_file_is_told_without_a_traceback(run: Run, file: Path, content: bytes) -> None:
    file.write_bytes(content)
    for argv in (("check",), ("keys", "list"), ("users", "add", "bob"), ("config", "show"), ("serve",)):
        ran = run(*argv)
        assert ran.code == 1
        assert "Traceback" not in ran.err
        assert ran.err.splitlines()[-1].startswith("gproxy: ")
    assert file.read_bytes() == content


@pytest.mark.parametrize("argv", [("users", "add", "\udcff"), ("alias", "set", "\udcff", "local/m")])
def test_an_argument_that_is_not_utf_8_is_one_sentence(run: Run, file: Path, argv: tuple[str, ...]) -> None:
    before = file.read_bytes()
    ran = run(*argv)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "gproxy: an argument, a variable or the input is not UTF-8 text: give it in UTF-8\n"
    assert file.read_bytes() == before


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_input_that_is_not_utf_8_is_one_sentence(file: Path, errors: str) -> None:
    argv = [
        "-m",
        "gproxy",
        "providers",
        "add",
        "up",
        "--channel",
        "openai",
        "--literal",
        "--config",
        str(file),
    ]
    ran = subprocess.run(
        [sys.executable, *argv],
        input=b"sk-\xff\n",
        env=os.environ | {"PYTHONIOENCODING": f"utf-8:{errors}"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
    )
    assert (ran.returncode, ran.stdout) == (1, b"")
    assert ran.stderr.count(b"\n") == 1
    assert ran.stderr.startswith(b"gproxy: ")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no such device here")
@pytest.mark.parametrize(
    "command", ["--version", "--help", "users list", "users list --json", "check", "config show"]
)
def test_an_output_that_is_full_is_one_sentence(file: Path, command: str) -> None:
    config = "" if command.startswith("--") else f" --config {file}"
    program = f"{sys.executable} -m gproxy {command}{config} > /dev/full"
    ran = subprocess.run(["bash", "-c", program], capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (
        1,
        "gproxy: the output cannot be written: No space left on device\n",
    )


def test_a_failure_that_is_not_of_the_output_is_not_taken_for_one(
    run: Run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gproxy.cli.files.find", lambda explicit: os.stat("/nowhere"))
    with pytest.raises(FileNotFoundError):
        run("check")


@pytest.mark.parametrize(
    "argv", [("usage",), ("quota", "show"), ("check",), ("serve",), ("explain", "local/m")]
)
def test_a_data_folder_in_the_home_of_nobody_is_one_sentence(
    run: Run, file: Path, argv: tuple[str, ...]
) -> None:
    file.write_text('[global]\ndata_dir = "~no-such-user/x"\n' + file.read_text())
    ran = run(*argv)
    assert ran.code == 1
    assert "Traceback" not in ran.err
    assert ran.err.splitlines()[-1].startswith("gproxy: ")


@pytest.mark.parametrize("argv", [("usage",), ("quota", "show"), ("explain", "local/m")])
def test_reading_makes_no_data_folder(run: Run, file: Path, argv: tuple[str, ...]) -> None:
    assert run(*argv).code == 0
    assert not (file.parent / "data").exists()


def test_ctrl_c_while_a_command_is_being_imported_is_no_traceback() -> None:
    program = (
        "import os, signal, sys; from gproxy.cli.main import main\n"
        "def interrupt(event, what):\n"
        "    if event == 'import' and what[0] == 'gproxy.config.schema': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.addaudithook(interrupt)\n"
        "sys.exit(main(['serve', '--demo']))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
