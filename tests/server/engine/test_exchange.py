"""What an application may send, and what becomes of it on the wire; connections are tested in `test_http1.py`."""

import asyncio
import time
from typing import Any

import pytest

from gproxy.errors import BadRequest
from gproxy.server.engine.exchange import CONTINUE, Exchange
from gproxy.server.engine.framing import read_head
from gproxy.server.request.incoming import ClientLeft
from tests.server.listening import Paper


def exchange(paper: Paper, *headers: str, line: str = "POST /x HTTP/1.1") -> Exchange:
    return Exchange(paper, *read_head("\r\n".join([line, "host: a", *headers, "", ""]).encode()))


def start(*headers: tuple[bytes, bytes], status: int = 200) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": headers}


def body(data: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def test_the_body_comes_as_it_has_come_and_then_the_news_of_the_end() -> None:
    paper = Paper()
    paper.paused = True
    it = exchange(paper, "content-length: 6")
    assert it.feed(b"ab") == b""
    assert it.feed(b"cd") == b""
    assert await it.receive() == {"type": "http.request", "body": b"abcd", "more_body": True}
    assert it.feed(b"efGET") == b"GET"
    assert it.whole
    assert await it.receive() == {"type": "http.request", "body": b"ef", "more_body": False}
    assert paper.taken == 2
    waiting = asyncio.create_task(it.receive())
    await asyncio.sleep(0)
    assert not waiting.done()
    it.leave()
    assert await waiting == {"type": "http.disconnect"}


async def test_an_empty_body_is_one_empty_message() -> None:
    it = exchange(Paper())
    assert await it.receive() == {"type": "http.request", "body": b"", "more_body": False}


async def test_who_waits_is_told_of_a_broken_body_once() -> None:
    it = exchange(Paper(), "transfer-encoding: chunked")
    waiting = asyncio.create_task(it.receive())
    await asyncio.sleep(0)
    it.feed(b"nonsense\r\n")
    assert (it.whole, it.broken, it.keep_alive) == (True, True, False)
    with pytest.raises(BadRequest):
        await waiting
    assert await it.receive() == {"type": "http.disconnect"}


async def test_100_is_sent_once_and_only_while_it_is_waited_for() -> None:
    paper = Paper()
    it = exchange(paper, "content-length: 2", "expect: 100-continue")
    waiting = asyncio.create_task(it.receive())
    await asyncio.sleep(0)
    assert paper.text == CONTINUE
    it.feed(b"a")
    assert (await waiting)["more_body"] is True
    waiting = asyncio.create_task(it.receive())
    await asyncio.sleep(0)
    it.feed(b"b")
    await waiting
    assert paper.text == CONTINUE


async def test_100_is_not_sent_once_the_answer_has_begun() -> None:
    paper = Paper()
    it = exchange(paper, "content-length: 2", "expect: 100-continue")
    await it.send(start())
    waiting = asyncio.create_task(it.receive())
    await asyncio.sleep(0)
    assert paper.text == b""
    await it.send(body(b""))
    assert await waiting == {"type": "http.disconnect"}
    assert b"connection: close" in paper.text


@pytest.mark.parametrize("status", [200, 404, 299, 599])
async def test_any_status_has_its_line(status: int) -> None:
    paper = Paper()
    it = exchange(paper)
    await it.send(start(status=status))
    await it.send(body(b""))
    assert paper.text.startswith(f"HTTP/1.1 {status} ".encode())


async def test_a_server_that_stops_says_so_in_the_answer() -> None:
    paper = Paper(draining=True)
    it = exchange(paper)
    await it.send(start((b"content-length", b"1")))
    await it.send(body(b"x"))
    assert b"\r\nconnection: close\r\n" in paper.text
    assert it.keep_alive is False


async def test_sending_waits_until_the_client_takes_more() -> None:
    paper = Paper()
    it = exchange(paper)
    await it.send(start())
    paper.blocked = True
    sending = asyncio.create_task(it.send(body(b"x", more=True)))
    await asyncio.sleep(0)
    assert not sending.done()
    paper.flow.set()
    await sending


@pytest.mark.parametrize("line", ["POST /x HTTP/1.1", "HEAD /x HTTP/1.1", "POST /x HTTP/1.0"])
async def test_a_stream_that_is_pushed_is_that_of_messages(
    line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 0.0)
    pushed, sent = Paper(), Paper()
    it, other = exchange(pushed, line=line), exchange(sent, line=line)
    it.stream(200, b"a: b\r\n", b"c: d\r\n")
    await other.send(start((b"a", b"b"), (b"c", b"d")))
    for piece in (b"one", b"", b"two", b"x" * 300):
        assert it.push(piece)
        await other.send(body(piece, more=True))
    it.put(b"", more=False)
    await other.send(body(b""))
    texts = [text.replace(b"transfer-encoding: chunked\r\n", b"") for text in (pushed.text, sent.text)]
    assert texts[0] == texts[1]
    assert (it.keep_alive, it.ended) == (other.keep_alive, True)
    with pytest.raises(RuntimeError, match="out of its turn"):
        it.push(b"x")


async def test_a_push_tells_whether_the_client_takes_more() -> None:
    paper = Paper()
    it = exchange(paper)
    it.stream(200, b"", b"")
    assert it.push(b"a")
    paper.blocked = True
    assert not it.push(b"b")
    assert paper.text.endswith(b"\r\n\r\n1\r\na\r\n1\r\nb\r\n")


@pytest.mark.parametrize(
    "header", [(b"x", b"a\r\nb: c"), (b"x", b"a\nb"), (b"x\r\ny", b"a"), (b"x", b"a\r"), (b"x\n", b"")]
)
async def test_a_header_cannot_hold_another(header: tuple[bytes, bytes]) -> None:
    paper = Paper()
    with pytest.raises(ValueError, match="line break"):
        await exchange(paper).send(start(header))
    assert paper.text == b""


@pytest.mark.parametrize("sent", [b"abcd", b"ab"])
async def test_an_answer_of_another_length_than_it_says_is_a_fault(sent: bytes) -> None:
    paper = Paper()
    it = exchange(paper)
    await it.send(start((b"content-length", b"3")))
    with pytest.raises(RuntimeError, match="Content-Length"):
        await it.send(body(sent))
    assert (it.ended, it.keep_alive) == (False, False)


async def test_messages_out_of_their_turn_are_faults() -> None:
    it = exchange(Paper())
    with pytest.raises(RuntimeError):
        await it.send(body(b""))
    await it.send(start())
    with pytest.raises(RuntimeError):
        await it.send(start())
    await it.send(body(b"x"))
    for late in (body(b""), start(), {"type": "http.response.trailers"}):
        with pytest.raises(RuntimeError):
            await it.send(late)


async def test_whoever_asks_is_called_when_the_client_leaves_or_has_left() -> None:
    called: list[str] = []
    it = exchange(Paper())
    it.on_leaving(lambda: called.append("taken back"))
    it.on_leaving(None)
    it.on_leaving(lambda: called.append("leaving"))
    it.leave()
    it.leave()
    assert called == ["leaving"]
    it.on_leaving(lambda: called.append("left"))
    it.on_leaving(None)
    await asyncio.sleep(0)
    it.on_leaving(lambda: called.append("had left"))
    assert called == ["leaving"]
    await asyncio.sleep(0)
    assert called == ["leaving", "had left"]


async def test_what_is_there_is_ready_and_nothing_else_is() -> None:
    it = Exchange(Paper(), *read_head(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\n"))
    assert it.ready() is None
    it.feed(b"ab")
    assert it.ready() == (b"ab", True)
    assert it.ready() is None
    it.feed(b"cd")
    assert it.ready() == (b"cd", False)
    assert it.ready() is None
    it.leave()
    with pytest.raises(ClientLeft):
        it.ready()


async def test_what_came_before_a_body_broke_is_not_ready_any_more() -> None:
    it = exchange(Paper(), "transfer-encoding: chunked")
    it.feed(b"3\r\none\r\n")
    it.feed(b"nonsense\r\n")
    with pytest.raises(BadRequest):
        it.ready()
    with pytest.raises(ClientLeft):
        it.ready()
