"""What `serve` does before and around serving, as a shell sees it."""

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from tests.cli.conftest import MINIMAL, Run

COMMAND = [sys.executable, "-m", "gproxy", "serve"]


NEEDLESS = ("aiohttp", "pydantic", "pygments", "quart", "rich", "sqlite_utils")
"""Packages of tenths of a second or many MB that serving does without, or imports when they are first needed."""


def test_a_start_waits_for_nothing_that_serving_does_not_need() -> None:
    program = (
        "import sys; import gproxy.cli.tree, gproxy.config.source, gproxy.server.process.supervisor;"
        f"gproxy.cli.tree.command.commands['serve']; print([name for name in {NEEDLESS!r} if name in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout == "[]\n"


@contextmanager
def serving(folder: Path, *flags: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
    """A server with pipes for its output, ended by SIGTERM."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GPROXY_")}
    process = subprocess.Popen(
        [*COMMAND, *flags],
        cwd=folder,
        env=clean | {"PYTHONPATH": os.getcwd()} | environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)


def line(stream: IO[str] | None, holding: str) -> str:
    return next(text for text in stream or () if holding in text)


@pytest.mark.parametrize("signalled", [signal.SIGTERM, signal.SIGINT])
def test_the_demo_prints_a_curl_line_that_works_and_leaves_nothing(
    tmp_path: Path, signalled: signal.Signals
) -> None:
    here, temporary = tmp_path / "here", tmp_path / "tmp"
    here.mkdir()
    temporary.mkdir()
    broken = tmp_path / "broken.toml"
    broken.write_text("nonsense")
    environ = {
        "TMPDIR": str(temporary),
        "GPROXY_CONFIG": str(broken),
        "GPROXY_DATA_DIR": str(tmp_path / "no"),
    }
    with serving(here, "--demo", "--port", "0", **environ) as server:
        curl = line(server.stdout, "curl ")
        line(server.stderr, "listening on")
        answer = subprocess.run([*shlex.split(curl), "-sS"], capture_output=True, text=True, check=True)
        assert '"choices"' in answer.stdout
        assert [path.name[:12] for path in temporary.iterdir()] == ["gproxy-demo-"]
        server.send_signal(signalled)
        assert server.wait(20) == 0
    assert list(here.iterdir()) == list(temporary.iterdir()) == []
    assert not (tmp_path / "no").exists()


def test_a_flag_goes_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "gproxy.toml"
    path.write_text(f'[global]\nport = 1\nlog_format = "text"\n{MINIMAL}')
    flags = ("--port", "0", "--data-dir", "store", "--allowed-hosts", "a.example", "--no-enable-usage")
    with serving(tmp_path, *flags, GPROXY_PORT="2", GPROXY_LOG_FORMAT="json") as server:
        said = line(server.stderr, "listening on")
    assert re.search(r"http://127\.0\.0\.1:(?!1\b|2\b)\d+", said)
    assert (tmp_path / "store" / "gproxy.db").exists()


def test_warnings_are_printed_once_before_it_serves(tmp_path: Path) -> None:
    (tmp_path / "gproxy.toml").write_text(MINIMAL)
    with serving(tmp_path, "--port", "0") as server:
        assert server.stderr is not None
        before = []
        for text in server.stderr:
            if "listening on" in text:
                break
            before.append(text)
    assert sum("gproxy keys hash" in text for text in before) == 1


def test_a_misspelt_variable_is_told_once_and_no_edit_tells_it_again(tmp_path: Path) -> None:
    path = tmp_path / "gproxy.toml"
    path.write_text(MINIMAL)
    said = ""
    with serving(tmp_path, "--port", "0", GPROXY_PROT="canary") as server:
        assert server.stderr is not None
        for text in server.stderr:
            said += text
            if "listening on" in text:
                path.write_text(MINIMAL + "# edited\n")
            if "configuration reloaded" in text:
                break
    assert said.count("GPROXY_PROT") == said.count('did you mean "GPROXY_PORT"?') == 1
    assert said.count("gproxy keys hash") == 2  # of the file, which is told with each of its versions
    assert "canary" not in said


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_secret_that_is_not_there_is_told_of_once_before_it_serves(tmp_path: Path, workers: str) -> None:
    """The parent of workers reads no secret; of the workers, the first one says what all of them find."""
    credentials = 'credentials = [{ env = "GPROXY_TEST_NOT_SET" }]'
    (tmp_path / "gproxy.toml").write_text(MINIMAL.replace("settings =", f"{credentials}\nsettings ="))
    with serving(tmp_path, "--port", "0", "--workers", workers) as server:
        assert server.stderr is not None
        before = []
        for text in server.stderr:
            if "listening on" in text:
                break
            before.append(text)
    assert sum("GPROXY_TEST_NOT_SET is not set" in text for text in before) == 1
    assert sum("gproxy keys hash" in text for text in before) == 1


def test_every_error_of_the_file_is_printed_and_nothing_is_served(run: Run, file: Path) -> None:
    file.write_text(MINIMAL.replace('"*"', "3") + "unknwn = 1\n")
    ran = run("serve", "--port", "0")
    assert (ran.code, ran.out) == (1, "")
    assert len(re.findall(r"^gproxy\.toml:\d+: error: ", ran.err, re.M)) == 2
    assert ran.err.endswith("gproxy: gproxy.toml has 2 errors: mend the file and try again\n")


@pytest.mark.parametrize(
    ("flags", "named"),
    [(("--port", "abc"), "--port"), (("--port", "70000"), "--port"), (("--workers", "0"), "")],
)
def test_a_flag_that_cannot_be_is_named(run: Run, file: Path, flags: tuple[str, ...], named: str) -> None:
    ran = run("serve", *flags)
    assert ran.code in (1, 2)
    assert named in ran.err
    assert "Traceback" not in ran.err


def test_a_variable_that_cannot_be_is_named(run: Run, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPROXY_PORT", "abc")
    ran = run("serve")
    assert ran.code == 1
    assert "GPROXY_PORT" in ran.err


@pytest.mark.parametrize("workers", ["1", "2"])
def test_it_says_what_it_serves_before_it_listens_plain_in_a_pipe(tmp_path: Path, workers: str) -> None:
    (tmp_path / "gproxy.toml").write_text(MINIMAL)
    with serving(tmp_path, "--port", "0", "--workers", workers, FORCE_COLOR="1") as server:
        assert server.stderr is not None
        before = ""
        for text in server.stderr:
            if "listening on" in text:
                break
            before += text
    assert re.search(r"^gproxy \S+ at http://127\.0\.0\.1:\d+$", before, re.M)
    assert "  providers     local (custom)\n" in before
    assert "\x1b" not in before
