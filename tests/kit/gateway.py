"""A real `gproxy serve` process on a free port, its configuration, its ledger and its command line.

What the upstream behind it says is `upstream.py`'s.
"""

import json
import os
import re
import signal
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx

from gproxy.ledger.accounts import LOOK_S
from tests.kit.upstream import DEADLINE_S

KEY = "sk-client-alice"
"""A literal key of user alice, who may use everything."""

NARROW_KEY = "sk-client-bob"
"""A literal key of user bob, who may use what his permissions say."""

UPSTREAM_KEY = "sk-provider-canary-4711"
"""The secret of every provider; it must turn up nowhere but at the upstream."""

ROOT = str(Path(__file__).resolve().parents[2])
"""The folder that holds the package, so that a child process runs the code under test."""

T = TypeVar("T")

START_S = 60.0
"""Within so long a process serves, on a machine that may be busy with many. How soon it should is no test's."""

_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Trusts nobody. To read whom this machine trusts takes each client longer than all that it is for."""

_COMMAND = (sys.executable, "-m", "gproxy.cli.main")
_EACH = """
import json, sys
from gproxy.cli.main import main
for command in json.loads(sys.argv[1]):
    main([*command, *sys.argv[2:]])
    print(end="\\0", flush=True)
"""
_LISTENING = re.compile(r"listening on (https?://127\.0\.0\.1:\d+)")


def poll(look: Callable[[], T | None], what: str, within: float = DEADLINE_S) -> T:
    """What `look` returns as soon as it is neither None nor False; fails after `within` seconds."""
    end = time.monotonic() + within
    while True:
        found = look()
        if found is not None and found is not False:
            return found
        assert time.monotonic() < end, f"not within {within} s: {what}"
        time.sleep(0.02)


class Gateway:
    """Use as a context manager: serves from entry to exit, and asserts a clean end.

    `config` is the text of gproxy.toml, without the `[global]` keys `port` and `data_dir`; `env` comes on top of
    this process's own.
    """

    def __init__(self, folder: Path, config: str, *flags: str, env: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.path = folder / "gproxy.toml"
        self.path.write_text(config, encoding="utf-8")
        self.path.chmod(0o600)
        self.database = folder / "data" / "gproxy.db"
        self.lines: list[str] = []
        self.url = ""
        self._flags = flags
        self._more_env = env or {}
        self._over = False
        self._news = threading.Condition()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None and not self._over:
            self.stop()
        elif not self._over:
            self.kill()
            print(self.stderr)

    def start(self) -> None:
        command = (*_COMMAND, "serve", "--config", str(self.path), "--port", "0", *self._flags)
        self.process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=self._env(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            process_group=0,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self.url = self.wait_line(_LISTENING, within=START_S).group(1)
        except BaseException:  # nobody else ends one that was never entered
            if self.process.poll() is None:
                self.kill()
            raise

    def stop(self) -> None:
        """SIGTERM; fails unless the process was alive and ends with 0 and without a traceback."""
        assert self.process.poll() is None, f"gproxy ended by itself: {self.stderr}"
        self.process.send_signal(signal.SIGTERM)
        self.ended()

    def kill(self) -> None:
        """SIGKILL to all its processes: none gets a chance to write anything more."""
        self._over = True
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._reader.join(DEADLINE_S)

    def ended(self) -> None:
        """Waits for the end of a process that was told to stop, and asserts that it was clean."""
        self._over = True
        try:
            code = self.process.wait(DEADLINE_S * 2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        self._reader.join(DEADLINE_S)
        assert code == 0, self.stderr
        assert "Traceback" not in self.stderr, self.stderr
        assert UPSTREAM_KEY not in self.stderr

    def _env(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.upper().endswith("_PROXY")}
        # Every proxy variable points at a closed port: one that is heeded fails the test.
        return kept | {
            "PYTHONPATH": ROOT,
            "PYTHONUNBUFFERED": "1",
            "HTTP_PROXY": "http://127.0.0.1:9",
            "ALL_PROXY": "http://127.0.0.1:9",
            **self._more_env,
        }

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as pipe:
            for line in pipe:
                with self._news:
                    self.lines.append(line.decode(errors="replace"))
                    self._news.notify_all()
        with self._news:
            self._news.notify_all()

    @property
    def stderr(self) -> str:
        return "".join(self.lines)

    def wait_line(
        self, pattern: str | re.Pattern[str], since: int = 0, within: float = DEADLINE_S
    ) -> re.Match[str]:
        """The first match on stderr from line `since` on, waited for."""

        def look() -> re.Match[str] | None:
            return re.search(pattern, "".join(self.lines[since:]))

        with self._news:
            self._news.wait_for(lambda: look() or self.process.poll() is not None, within)
            found = look()
        assert found is not None, f"no {pattern!r} on stderr: {self.stderr}"
        return found

    # The configuration and the command line.

    def cli(self, *arguments: str, stdin: str = "", code: int | None = 0, both: bool = False) -> str:
        """Runs one command beside the server; its stdout, and `both`: its stderr too. `code`: the exit code it must
        have (None: any)."""
        done = subprocess.run(
            (*_COMMAND, *arguments, "--config", str(self.path)),
            cwd=self.folder,
            env=self._env(),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S * 2,
        )
        assert code is None or done.returncode == code, (arguments, done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout + done.stderr if both else done.stdout

    def cli_each(self, commands: Iterable[Sequence[str]]) -> list[str]:
        """Runs commands one after another in one process, since most of what one takes is its start; what each has
        said on both its streams, whatever its exit code."""
        done = subprocess.run(
            (sys.executable, "-c", _EACH, json.dumps([*commands]), "--config", str(self.path)),
            cwd=self.folder,
            env=self._env(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE_S * 2,
        )
        assert done.returncode == 0, done.stdout
        assert "Traceback" not in done.stdout, done.stdout
        return done.stdout.split("\0")[:-1]

    def edit(self, change: Callable[[str], str]) -> None:
        """Rewrites gproxy.toml as an editor would: a new file renamed over the old one."""
        fresh = self.path.with_suffix(".new")
        fresh.write_text(change(self.path.read_text(encoding="utf-8")), encoding="utf-8")
        fresh.chmod(0o600)
        fresh.replace(self.path)

    # The ledger.

    def change(self, statement: str, *values: object) -> None:
        """Change the store by hand, and return when the next request looks for it, as a rule: how long a busy machine
        took to look the last time, no test can know."""
        with closing(sqlite3.connect(self.database, isolation_level=None)) as db:
            db.execute(statement, values)
        time.sleep(LOOK_S)  # a process that counts in memory looks no more often

    def rows(self, **where: Any) -> list[dict[str, Any]]:
        """Rows of `usage` whose columns equal `where`, in order."""
        clause = " AND ".join(f"{column} = ?" for column in where) or "1"
        connection = sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)
        try:
            connection.row_factory = sqlite3.Row
            found = connection.execute(
                f"SELECT * FROM usage WHERE {clause} ORDER BY id",  # noqa: S608  # column names are the tests' own
                tuple(where.values()),
            )
            return [dict(row) for row in found]
        finally:
            connection.close()

    def row(self, **where: Any) -> dict[str, Any]:
        """The one row that matches, which must be there already."""
        found = self.rows(**where)
        assert len(found) == 1, (where, found)
        return found[0]

    def wait_row(self, **where: Any) -> dict[str, Any]:
        """The one row that matches, waited for: for answers whose end the client did not see."""
        poll(lambda: self.rows(**where) or None, f"a row with {where}")
        return self.row(**where)

    # Plain HTTP.

    def client(self, key: str | None = KEY, **options: Any) -> httpx.Client:
        """An httpx client at the gateway's root; close it."""
        headers = {"authorization": f"Bearer {key}"} if key else {}
        options.setdefault("verify", _NO_TLS)
        return httpx.Client(
            base_url=self.url,
            headers=headers | options.pop("headers", {}),
            trust_env=False,
            timeout=DEADLINE_S * 2,
            **options,
        )

    def post(self, path: str, body: Any, key: str | None = KEY, **headers: str) -> httpx.Response:
        """POSTs JSON (bytes as they are) and reads the whole answer."""
        content = {"content": body} if isinstance(body, bytes) else {"json": body}
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        with self.client(key) as client:
            return client.post(path, headers={"content-type": "application/json"} | names, **content)

    def get(self, path: str, key: str | None = KEY, **headers: str) -> httpx.Response:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        with self.client(key) as client:
            return client.get(path, headers=names)
