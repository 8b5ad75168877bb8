"""Unique secrets of every kind, sent through a server that logs all it can: none may turn up in anything it keeps.

The upstream gives back whatever it is sent, in its headers and its bodies, plain, percent-encoded and in JSON.
"""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote

import pytest

from gproxy.ledger.logs import Downstream, Filters, listed
from tests.kit.gateway import ROOT, Gateway, poll

pytestmark = pytest.mark.both_engines

CANARIES = {
    "client": "op_canaryClientKey0123456789abcdefghijklmnop",
    "query": "op_canaryQueryKey0123456789abcdefghijklmnopq",
    "provider": "sk-canary+provider/key=0123456789",
    "other provider": "sk-canary-other-provider-0123456789",
    "header": "team canary/header value",
    "proxy": "canaryProxy/Password",
    "cookie": "canaryCookieValue0123456789",
    "another client": "canaryForeignKey.0123456789",
    "admin": "canaryAdminKey/0123456789",
    "address": "canaryOfAnAddress+0123456789",
    "environment": "canaryProxyOfTheEnvironment",
    "astray": "sk-canaryAstrayAsAName0123456789",
}
ASKS = (
    *("check", "config show", "config show --json", "doctor --json", "explain up/plain --user alice --json"),
    *("keys list --json", "users list --json", "permissions list --json", "providers list --json"),
    *("credentials list --json", "models list --json", "models list --live --json", "models prices --json"),
    *("providers test up --json", "providers test proxied --model plain", "providers test up --model 400"),
    *("limits list --json", "quota show --json", "alias list --json", "usage verify", "env openai"),
    *("usage export --format jsonl", "usage export --format csv", "usage --by key --json", "top --json"),
    *("logs", "logs --attempts", "logs --attempts --json", "logs --attempts --errors"),
)
"""Commands that show what there is, or ask an upstream."""

SHOWN = 12
"""That many characters of a canary, wherever they stand, are a find."""

DEBUG = """
import logging
_configure = logging.basicConfig
def basicConfig(**options):
    _configure(**{**options, "level": logging.DEBUG})
logging.basicConfig = basicConfig

import sys
if "serve" in sys.orig_argv:
    from gproxy.server.request import pipeline
    _serve = pipeline.serve
    async def serve(call, *more):
        if call.facts.model == "up/fault":
            raise RuntimeError(call.snapshot.providers["up"].credentials[0].secret)
        return await _serve(call, *more)
    pipeline.serve = serve
"""
"""Everything is logged, and one model meets with a fault of ours, whose text is a secret."""


class Echo(BaseHTTPRequestHandler):
    """Answers by the model's name: `plain`, `stream`, `failing` (one), `moved`, `binary`, `cut`, or a status."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        asked = json.loads(body)
        sent = [f"{name}: {value}" for name, value in self.headers.items()] + [self.path, body.decode()]
        echo = " | ".join(
            [*sent, *(quote(each, safe="") for each in sent), *(json.dumps(each) for each in sent)]
        )
        kind = asked["model"]
        if kind == "stream":
            event = {"id": "c", "model": kind, "choices": [{"index": 0, "delta": {"content": echo}}]}
            done = event | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
            text = f"data: {json.dumps(event)}\n\ndata: {json.dumps(done)}\n\ndata: [DONE]\n\n".encode()
            self._answer(200, "text/event-stream", text, in_pieces=True)
        elif kind == "failing":
            error = {"error": {"message": echo, "type": "server_error", "code": echo[:300]}}
            text = f"event: error\ndata: {json.dumps(error)}\n\n"
            event = {"id": "c", "model": kind, "choices": [{"index": 0, "delta": {"content": "well"}}]}
            self._answer(200, "text/event-stream", f"data: {json.dumps(event)}\n\n{text}".encode())
        elif kind == "moved":
            self._answer(307, "text/html", f"<html>{echo}".encode())
        elif kind == "binary":
            self._answer(200, "audio/mpeg", b"\xff\x00" + echo.encode())
        elif kind == "cut":
            tree = json.dumps({"model": kind, "choices": [], "pad": "x" * 65_000, "echo": echo}).encode()
            self._answer(200, "application/json", tree)
        elif kind == "plain":
            tree = json.dumps({"model": kind, "choices": [], "usage": None, "echo": echo}).encode()
            self._answer(200, "application/json", tree)
        else:
            error = json.dumps({"error": {"message": echo, "type": "x", "code": echo[:200]}}).encode()
            self._answer(int(kind), "application/json", error)

    def _answer(self, status: int, media: str, body: bytes, *, in_pieces: bool = False) -> None:
        self.send_response(status)
        self.send_header("content-type", media)
        self.send_header("content-length", str(len(body)))
        self.send_header("x-request-id", self.headers.get("authorization", ""))
        self.send_header("x-echo", quote(self.headers.get("authorization", "")))
        self.send_header(
            "location", f"http://{self.headers['host']}/?key={quote(self.headers.get('authorization', ''))}"
        )
        self.send_header("set-cookie", f"session={CANARIES['cookie']}")
        self.end_headers()
        # A secret is so cut in two wherever it stands.
        for at in range(0, len(body), 37 if in_pieces else len(body)):
            self.wfile.write(body[at : at + (37 if in_pieces else len(body))])
            self.wfile.flush()

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def echoing() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def configuration(url: str) -> str:
    proxy = url.replace("//", f"//me:{quote(CANARIES['proxy'], safe='')}@")

    def provider(name: str, secret: str, more: str = "") -> str:
        return (
            f'[[providers]]\nname = "{name}"\nchannel = "custom"\n'
            f'settings = {{ base_url = "{url}", protocols = ["openai_chat"], '
            f'headers = {{ "x-team" = "{CANARIES["header"]}" }}{more} }}\n'
            f'credentials = [{{ api_key = "{secret}" }}]\n'
        )

    def user(name: str, key: str) -> str:
        stored = hashlib.sha256(key.encode()).hexdigest()
        return (
            f'[[users]]\nname = "{name}"\n[[users.keys]]\nlabel = "k"\napi_key_hash = "sha256:{stored}"\n'
            f'[[permissions]]\nuser_name = "{name}"\nmodel_pattern = "*"\n'
        )

    flags = "".join(
        f"enable_{side}_log{body} = true\n" for side in ("upstream", "downstream") for body in ("", "_body")
    )
    return (
        f"[global]\n{flags}"
        + provider("up", CANARIES["provider"])
        + provider("other", CANARIES["other provider"])
        + provider("proxied", CANARIES["provider"], f', proxy = "{proxy}"')
        + provider("queried", CANARIES["provider"]).replace(
            f'"{url}"', f'"{url}/?key={quote(CANARIES["address"], safe="")}&api-version=1"'
        )
        + '[[model_aliases]]\nalias = "over"\nprovider_name = "up"\nmodel_id = "503"\n'
        'targets = [{ provider_name = "other", model_id = "plain" }]\n'
        + user("alice", CANARIES["client"])
        + '[[users]]\nname = "root"\nis_admin = true\n[[users.keys]]\n'
        f'label = "root"\napi_key = "{CANARIES["admin"]}"\n'
        + user("bob", CANARIES["query"])
        + user("carol", CANARIES["another client"])
    )


def forms(secret: str) -> set[bytes]:
    beginning = secret[:SHOWN]
    ways = {beginning, quote(beginning, safe=""), json.dumps(beginning)[1:-1], beginning.replace("/", "\\/")}
    return {way.encode() for way in ways}


def hits(where: str, data: bytes) -> list[tuple[str, str]]:
    return [(where, name) for name, secret in CANARIES.items() if any(form in data for form in forms(secret))]


@pytest.fixture(scope="module")
def served(
    http_engine: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Gateway, list[str]]]:
    """The gateway after all those requests, and the errors that its clients got."""
    folder = tmp_path_factory.mktemp("canaries")
    (folder / "debug").mkdir()
    (folder / "debug" / "sitecustomize.py").write_text(DEBUG)
    elsewhere = f"http://me:{CANARIES['environment']}@127.0.0.1:9"
    environment = {
        "PYTHONPATH": f"{ROOT}:{folder / 'debug'}",
        "PYTHONDEVMODE": "1",
        "HTTPS_PROXY": elsewhere,
        "SOME_API_KEY": CANARIES["environment"],
    }
    with echoing() as url, Gateway(folder, configuration(url), env=environment) as gateway:
        errors = list(everything(gateway))
        yield gateway, errors
        gateway.kill()  # a clean end would be one without a traceback


def everything(gateway: Gateway) -> Iterator[str]:
    """Sends requests of every kind; the bodies of errors."""
    chat, cookie = "/v1/chat/completions", f"session={CANARIES['cookie']}"
    prompt = [{"role": "user", "content": f"my key is {CANARIES['client']}"}]
    models = [
        "up/plain",
        "up/stream",
        "up/cut",
        "up/400",
        "up/404",
        "up/500",
        "other/401",
        "over",
        "proxied/plain",
        "queried/plain",
        "queried/400",
        "up/moved",
        "up/failing",
    ]
    for model in (*models, "up/429", "proxied/400", "nowhere/x"):
        body = {"model": model, "messages": prompt, "stream": model.endswith(("stream", "failing"))}
        answer = gateway.post(chat, body, key=CANARIES["client"], cookie=cookie)
        if answer.status_code != 200 or model.endswith("failing"):
            yield f"{answer.headers} {answer.text}"
        by_query = gateway.post(
            f"{chat}?key={CANARIES['query']}&note={quote(CANARIES['query'])}", body, key=None, cookie=cookie
        )
        if by_query.status_code != 200:
            yield f"{by_query.headers} {by_query.text}"
    for key in (CANARIES["client"] + "x", CANARIES["provider"], None):
        yield gateway.post(chat, {"model": "up/plain"}, key=key).text
        yield gateway.get("/v1/models", key=key).text
    yield gateway.post(chat, b'{"model": broken', key=CANARIES["client"]).text
    foreign = CANARIES["another client"]
    for path in (f"/{foreign}/v1/chat/completions", f"/v1beta/models/{foreign}:countTokens", chat):
        for key in (CANARIES["client"], None):
            yield gateway.post(f"{path}?note={foreign}", {"model": "up/404"}, key=key).text
    yield gateway.post(chat, {"model": "up/fault", "messages": prompt}, key=CANARIES["client"]).text


def requests_logged(gateway: Gateway) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(gateway.cli("logs", "--json", "--limit", "1000"))
    return found


def test_no_secret_is_in_anything_that_is_kept_or_said(served: tuple[Gateway, list[str]]) -> None:
    gateway, errors = served
    poll(
        lambda: len(listed(gateway.database, Downstream, Filters(), limit=1000)) == 32 + 7 + 7,
        "all in the logs",
    )
    found: list[tuple[str, str]] = []
    for path in (path for path in gateway.database.parent.rglob("*") if path.is_file()):
        found += hits(path.name, path.read_bytes())
    found += hits("stderr", gateway.stderr.encode())
    for text in errors:
        # Its own key, in its own words, is no news to a client.
        found += [hit for hit in hits("error", text.encode()) if hit[1] not in ("client", "query")]
    commands = [command.split() for command in ASKS]  # some find fault with such an upstream, and end with 1
    for row in requests_logged(gateway)[::6]:
        commands += (["logs", "show", row["request_id"], *more] for more in ((), ("--json",), ("--curl",)))
    for command, told in zip(commands, gateway.cli_each(commands), strict=True):
        assert "Usage: " not in told, command
        found += hits(" ".join(command), told.encode())
    for route in ("usage?by=key", "quotas", "credentials", "logs", "logs?attempts=1", "config"):
        answer = gateway.get(f"/admin/{route}", key=CANARIES["admin"])
        assert answer.status_code == 200
        found += hits(route, answer.content)
    found += hits("metrics", gateway.get("/metrics", key=CANARIES["admin"]).content)
    assert found == []


def test_the_canaries_did_go_through(served: tuple[Gateway, list[str]]) -> None:
    """Else nothing would be proved: what went by is in the logs, all but the secrets."""
    gateway, _ = served
    rows = requests_logged(gateway)
    assert "RuntimeError: [redacted]" in gateway.stderr
    assert {200, 400, 401, 404, 500, 502} <= {row["status"] for row in rows}
    attempts = json.loads(gateway.cli("logs", "--attempts", "--json", "--limit", "1000"))
    assert {200, 400, 401, 404, 429, 500, 503} <= {row["status"] for row in attempts}
    ok = [row["request_id"] for row in rows if row["requested_model"] == "up/plain" and row["status"] == 200]
    shown = json.loads(gateway.cli("logs", "show", ok[0], "--json"))
    assert "my key is [redacted]" in shown["request"]["request_body"]
    (attempt,) = shown["attempts"]
    assert "my key is [redacted]" in attempt["response_body"]
    assert "x-team: [redacted]" in attempt["response_body"]
    assert "Authorization: Bearer [redacted]" in attempt["response_body"].replace(
        "authorization", "Authorization"
    )
    assert ["authorization", "[redacted]"] in attempt["request_headers"]
    proxied = [row["request_id"] for row in rows if row["requested_model"] == "proxied/plain"]
    (attempt,) = json.loads(gateway.cli("logs", "show", proxied[0], "--json"))["attempts"]
    assert attempt["status"] == 200
    assert "Proxy-Authorization: Basic [redacted]" in attempt["response_body"]


def test_an_edit_that_is_refused_tells_no_key_that_was_pasted_into_it(
    served: tuple[Gateway, list[str]],
) -> None:
    """The last test: the file stays broken."""
    gateway, _ = served
    astray = [CANARIES[name] for name in ("astray", "environment", "provider", "admin")]
    more = "".join(
        f'["{key}"]\na = 1\n[[permissions]]\nuser_name = "{key}"\nmodel_pattern = "*"\n' for key in astray
    )
    gateway.edit(lambda text: text + more)
    gateway.wait_line("unknown table")
    ready = poll(
        lambda: (answer := gateway.get("/ready", key=None)).status_code == 503 and answer, "not ready"
    )
    assert "not in force: error at gproxy.toml:" in ready.text
    told = gateway.stderr + ready.text + gateway.cli("check", code=1, both=True)
    told += gateway.cli("doctor", "--json", code=1, both=True) + gateway.cli(
        "keys", "list", code=None, both=True
    )
    assert hits("refused", told.encode()) == []
