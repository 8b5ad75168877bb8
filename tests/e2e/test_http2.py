"""HTTP/2 over TLS: clients that leave, that read nothing, and answers that end early."""

import json
import socket
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, Event, ResponseReceived, StreamEnded, StreamReset

from gproxy.server.engine import repair
from tests.kit.calls import BY_ID, Call
from tests.kit.gateway import KEY, Gateway
from tests.kit.settings import chatting, everything
from tests.kit.upstream import SOON_S, Script, Upstream

CHAT, STREAM, SPEECH = BY_ID["chat"], BY_ID["chat-stream"], BY_ID["speech"]
BIG = b'data: {"choices":[{"delta":{"content":"' + b"x" * 50_000 + b'"}}]}\n\n'


FILES = 'tls_certificate = "tls.pem"\ntls_key = "tls.pem"\n'
"""Where a server finds what `certificate` makes."""


def certificate(folder: Path) -> None:
    """Writes a certificate for localhost and its key, `tls.pem`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC).replace(tzinfo=None)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now)
    signed = made.not_valid_after(now + timedelta(days=1)).sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    text = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "tls.pem").write_bytes(text + signed.public_bytes(pem))
    (folder / "tls.pem").chmod(0o644)


@pytest.fixture(scope="module")
def tls(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("tls")
    certificate(folder)
    with Gateway(folder, everything(upstream.url).replace("[global]\n", f"[global]\n{FILES}")) as gateway:
        yield gateway


@pytest.mark.parametrize("asks", [True, False], ids=["asked once", "silent"])
def test_a_server_ends_without_the_goodbye_of_clients_that_read_nothing(
    tmp_path: Path, upstream: Upstream, asks: bool
) -> None:
    """As those do that keep a connection for later: TLS would be waited for 30 s, and its end leave a traceback."""
    certificate(tmp_path)
    with Gateway(tmp_path, chatting(upstream.url, FILES)) as gateway, Client(gateway) as client:
        client.flush()
        if asks:
            client.events(client.ask(CHAT, upstream.model()))
        began = time.monotonic()
        gateway.stop()
        assert time.monotonic() - began < SOON_S + repair.LINGER_SECONDS


@pytest.mark.parametrize("reads", [True, False])
def test_streams_that_the_end_cuts_off_leave_their_rows(
    tmp_path: Path, upstream: Upstream, reads: bool
) -> None:
    """Also where the client lets nothing more come: its connection is then ended, without a traceback."""
    certificate(tmp_path)
    config = chatting(upstream.url, f"{FILES}drain_seconds = 0\n")
    script = Script(stop_after=2, then="hang") if reads else Script(chunks=(BIG,) * 2000)
    models = [upstream.model(script) for _ in range(3)]
    with Gateway(tmp_path, config) as gateway, Client(gateway) as client:
        streams = [client.ask(STREAM, model) for model in models]
        for model in models:
            upstream.wait_for(model)
        client.sock.recv(1024)
        gateway.stop()
        if reads:
            assert {type(end) for end in client.ended(3).values()} == {StreamEnded}
    assert streams == [1, 3, 5]
    assert {row["model"]: row["outcome"] for row in gateway.rows()} == dict.fromkeys(models, "interrupted")


class Client:
    """One HTTP/2 connection; use as a context manager."""

    def __init__(self, gateway: Gateway) -> None:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        host, _, port = gateway.url.removeprefix("https://").rpartition(":")
        self.sock = context.wrap_socket(socket.create_connection((host, int(port)), timeout=10))
        assert self.sock.selected_alpn_protocol() == "h2"
        self.h2 = H2Connection(H2Configuration(client_side=True))
        self.h2.initiate_connection()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def ask(self, call: Call, model: str, provider: str = "") -> int:
        """Sends the call; its stream."""
        stream = self.begin(call, model, provider)
        self.flush()
        return stream

    def begin(self, call: Call, model: str, provider: str = "") -> int:
        """Makes the call ready, to be sent with the next ones; its stream."""
        stream: int = self.h2.get_next_available_stream_id()
        body = json.dumps(call.fields(model)).encode()
        pseudo = [(":method", "POST"), (":path", call.url(model, provider or call.provider))]
        pseudo += [(":scheme", "https"), (":authority", "localhost")]
        headers = [("authorization", f"Bearer {KEY}"), ("content-type", "application/json")]
        self.h2.send_headers(stream, pseudo + headers)
        self.h2.send_data(stream, body, end_stream=True)
        return stream

    def flush(self) -> None:
        self.sock.sendall(self.h2.data_to_send())

    def ended(self, number: int) -> dict[int, StreamEnded | StreamReset]:
        """How so many streams ended, by stream, in the order of their ends."""
        found: dict[int, StreamEnded | StreamReset] = {}
        self.flush()
        while len(found) < number:
            data = self.sock.recv(65536)
            assert data, "the connection ended"
            for event in self.h2.receive_data(data):
                if isinstance(event, StreamEnded | StreamReset):
                    found[event.stream_id] = event
            self.flush()
        return found

    def events(self, stream: int) -> list[Event]:
        """All of one stream, up to its end or reset."""
        found: list[Event] = []
        while not any(isinstance(event, (StreamEnded, StreamReset)) for event in found):
            data = self.sock.recv(65536)
            assert data, "the connection ended"
            for event in self.h2.receive_data(data):
                if isinstance(event, DataReceived):
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                if getattr(event, "stream_id", None) == stream:
                    found.append(event)
            self.flush()
        return found


def body_of(events: list[Event]) -> bytes:
    return b"".join(bytes(event.data) for event in events if isinstance(event, DataReceived) and event.data)


def test_a_key_that_others_can_read_is_told_of_at_the_start(tls: Gateway) -> None:
    assert f"gproxy: warning: others can read tls_key: `chmod go= {tls.folder}/tls.pem`.\n" in tls.stderr


def test_answers_and_streams_are_whole(tls: Gateway, upstream: Upstream) -> None:
    plain, stream, large = upstream.model(), upstream.model(), upstream.model(Script(chunks=(BIG,) * 60))
    with Client(tls) as client:
        assert json.loads(body_of(client.events(client.ask(CHAT, plain))))["model"] == plain
        assert body_of(client.events(client.ask(STREAM, stream))).endswith(b"data: [DONE]\n\n")
        # A provider that allows 0.4 s: a client that reads all the time is no slow one.
        assert body_of(client.events(client.ask(STREAM, large, "quiet"))).startswith(BIG * 60)


def test_requests_beyond_the_hundredth_at_once_are_refused_alone(tls: Gateway, upstream: Upstream) -> None:
    """Sent before the client has heard how many it may send; RFC 9113, 8.7: it may send the refused ones again."""
    models = [upstream.model() for _ in range(103)]
    with Client(tls) as client:
        for model in models:
            client.begin(CHAT, model)
        ended = client.ended(len(models))
        again = client.events(client.ask(CHAT, models[-1]))
    answered, refused = sorted(ended), [each for each in ended.values() if isinstance(each, StreamReset)]
    assert answered == list(range(1, 2 * len(models), 2))
    assert [(each.stream_id, each.error_code) for each in refused] == [
        (stream, ErrorCodes.REFUSED_STREAM) for stream in (201, 203, 205)
    ]
    assert json.loads(body_of(again))["model"] == models[-1]


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("after", [0, 1], ids=["head", "event"])
def test_leaving_lets_the_upstream_go(tls: Gateway, upstream: Upstream, how: str, after: int) -> None:
    model = upstream.model(Script(stop_after=after, then="hang"))
    with Client(tls) as client:
        stream = client.ask(STREAM, model)
        upstream.wait_for(model)
        if after:
            client.sock.recv(65536)
        if how == "reset":
            client.h2.reset_stream(stream)
            client.flush()
        else:
            client.sock.close()
        assert upstream.closed_within(model, time.monotonic())
    row = tls.wait_row(model=model)
    assert (row["status"], row["outcome"]) == (499, "client_closed")


def test_a_stream_that_is_not_read_holds_its_upstream_back_and_is_reset(
    tls: Gateway, upstream: Upstream
) -> None:
    """It alone: the connection serves others."""
    model, other = upstream.model(Script(chunks=(BIG,) * 2000)), upstream.model()
    with Client(tls) as client:
        stream = client.ask(STREAM, model, "quiet")
        row = tls.wait_row(model=model)
        assert (row["status"], row["error"]) == (499, "the client took nothing for 0.4 s")
        assert upstream.only(model).over.wait(1)
        assert len(upstream.only(model).sent) < 1000
        client.ask(CHAT, other)
        assert isinstance(client.events(stream)[-1], StreamReset)
        row = tls.wait_row(model=other)
        assert (row["status"], row["outcome"]) == (200, "ok")


def test_bytes_that_break_off_are_reset(tls: Gateway, upstream: Upstream) -> None:
    model = upstream.model(Script(cut_every=100, stop_after=3, then="cut"))
    with Client(tls) as client:
        events = client.events(client.ask(SPEECH, model))
    assert isinstance(events[0], ResponseReceived)
    assert isinstance(events[-1], StreamReset)


def test_a_stream_that_breaks_ends_well_with_an_error(tls: Gateway, upstream: Upstream) -> None:
    model = upstream.model(Script(stop_after=2, then="reset"))
    with Client(tls) as client:
        events = client.events(client.ask(STREAM, model))
    assert isinstance(events[-1], StreamEnded)
    assert b"upstream_error" in body_of(events)
