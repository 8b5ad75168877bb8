"""The gateways that `compare.py` sets beside each other: how each is started, and how it is asked.

What is measured is `compare.py`'s. A gateway of others is there when its path is given; none is installed here.
"""

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from common import GPROXY, environment
from policy import governed
from relay import ID_LENGTH, KEY, Asking, request_of

START_S = 180.0
"""How long a gateway may take to its first answer."""

_NGINX = """
{user}
daemon off; worker_processes {workers}; pid nginx.pid; error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
  access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u;
  scgi_temp_path s; client_max_body_size 0; client_body_buffer_size 2m;
  upstream up {{ server 127.0.0.1:{upstream}; keepalive 512; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} reuseport backlog=2048; keepalive_requests 1000000000;
    location / {{
      proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }}
  }}
}}
"""
_LITELLM = """
model_list:
  - model_name: bench
    litellm_params: {{model: openai/bench, api_base: "http://127.0.0.1:{upstream}/v1", api_key: sk-upstream}}
general_settings: {{master_key: {key}}}
litellm_settings: {{telemetry: false}}
"""
_LM_PROXY = """
host = "127.0.0.1"
port = {port}
[connections.up]
api_type = "open_ai"
api_base = "http://127.0.0.1:{upstream}/v1"
api_key = "sk-upstream"
[routing]
"*" = "up.*"
[groups.default]
api_keys = ["{key}"]
"""


@dataclass(frozen=True)
class Running:
    """A gateway that answers. `first_s` is the time from its spawn to its first answer."""

    name: str
    asking: Asking
    pid: int
    first_s: float


@dataclass(frozen=True)
class Gateway:
    """One way to be between a client and the upstream. `command` writes what it needs into a folder and gives the
    command line, from (port, upstream's port, folder, workers)."""

    name: str
    command: Callable[[int, int, Path, int], tuple[str, ...]]
    model: str = "bench"
    headers: Callable[[int], str] = lambda upstream: ""
    most_workers: int = 1
    slow: bool = False
    environ: tuple[tuple[str, str], ...] = ()

    @contextmanager
    def running(self, upstream: int, folder: Path, cpu: int | None, workers: int = 1) -> Iterator[Running]:
        """RuntimeError if no good answer comes within START_S."""
        folder.mkdir(mode=0o700, exist_ok=True)
        port = free_port()
        command = self.command(port, upstream, folder, workers)
        log = folder / "log"
        began = time.perf_counter()
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=folder,
                env=environment() | dict(self.environ),
                # Before it starts, so that what it forks or threads is pinned too.
                preexec_fn=None if cpu is None else partial(os.sched_setaffinity, 0, {cpu}),
            )
        try:
            asking = Asking(port, self.model, self.headers(upstream), exact=not self.slow)
            first_s = _first_answer(asking, process, began)
            if first_s is None:
                raise RuntimeError(f"{self.name} gave no answer: {log.read_text(errors='replace')[-2000:]}")
            yield Running(self.name, asking, process.pid, first_s)
        finally:
            process.terminate()
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _first_answer(asking: Asking, process: "subprocess.Popen[bytes]", began: float) -> float | None:
    """Seconds from `began` to the first answer of 200; None if the process ends, or the time is over."""
    id = b"0" * ID_LENGTH
    while process.poll() is None and time.perf_counter() - began < START_S:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", asking.port), 10) as asked:
            asked.sendall(request_of(asking.model, False, id, headers=asking.headers))
            got = b""
            while piece := asked.recv(65536):
                got += piece
                if id in got:
                    return time.perf_counter() - began
                if got.startswith(b"HTTP/1.1 4"):
                    break
        time.sleep(0.002)
    return None


def gproxy(name: str = "gproxy", *, rules: bool = True) -> Gateway:
    """In governed mode: key, permission, limits of every kind, quota and ledger. Without `rules` no limits."""

    def command(port: int, upstream: int, folder: Path, workers: int) -> tuple[str, ...]:
        path = folder / "gproxy.toml"
        path.touch(0o600)
        path.write_text(governed(upstream, rules=rules))
        flags = ("--port", str(port), "--config", str(path), "--workers", str(workers))
        return (*GPROXY, "serve", *flags)

    return Gateway(name, command, "up/bench", most_workers=2)


def nginx(path: str) -> Gateway:
    """As a reverse proxy: kept connections to the upstream, no access log, no buffering of answers."""

    def command(port: int, upstream: int, folder: Path, workers: int) -> tuple[str, ...]:
        user = "user root;" if os.geteuid() == 0 else ""
        text = _NGINX.format(user=user, workers=workers, port=port, upstream=upstream)
        Path(folder, "nginx.conf").write_text(text)
        return (path, "-p", str(folder), "-c", "nginx.conf")

    return Gateway("nginx", command, most_workers=2)


def baseline(python: str) -> Gateway:
    """`baseline.py`, by an interpreter that has what it needs."""
    script = str(Path(__file__).with_name("baseline.py"))

    def command(port: int, upstream: int, folder: Path, workers: int) -> tuple[str, ...]:
        return (python, script, str(port), str(upstream), str(folder))

    return Gateway("uvicorn + aiohttp", command, "up/bench")


def litellm(path: str) -> Gateway:
    """One worker, no database; a master key."""

    def command(port: int, upstream: int, folder: Path, workers: int) -> tuple[str, ...]:
        Path(folder, "litellm.yaml").write_text(_LITELLM.format(upstream=upstream, key=KEY))
        return (path, "--config", "litellm.yaml", "--host", "127.0.0.1", "--port", str(port))

    offline = (("LITELLM_LOCAL_MODEL_COST_MAP", "True"), ("LITELLM_LOG", "ERROR"))
    return Gateway("LiteLLM", command, slow=True, environ=offline)


def portkey(script: str) -> Gateway:
    """The open gateway, which has no keys of its own: the caller's is passed on."""

    def headers(upstream: int) -> str:
        return f"x-portkey-provider: openai\r\nx-portkey-custom-host: http://127.0.0.1:{upstream}/v1\r\n"

    def command(port: int, upstream: int, folder: Path, workers: int) -> tuple[str, ...]:
        return ("node", script, f"--port={port}", "--headless")

    return Gateway("Portkey", command, headers=headers, slow=True)


def lm_proxy(path: str) -> Gateway:
    def command(port: int, upstream: int, folder: Path, workers: int) -> tuple[str, ...]:
        Path(folder, "lm.toml").write_text(_LM_PROXY.format(port=port, upstream=upstream, key=KEY))
        return (path, "--config", "lm.toml")

    return Gateway("lm-proxy", command, slow=True)


def has_baseline(python: str) -> bool:
    """Whether an interpreter can run `baseline.py`."""
    needed = "import aiohttp, httptools, uvicorn, uvloop"
    return subprocess.run((python, "-c", needed), stderr=subprocess.DEVNULL).returncode == 0
