"""What translation costs, in CPU time: `python benchmarks/translate.py [--seconds 0.5]`.

For each pair of dialects: a small request and Claude Code's (31 KB, 45 tools), as JSON for the target; an answer;
and a stream, per event. Beside it, what the same costs where nothing is translated: the model's name changed in the
body, a look for reasoning that others signed, and events that pass the tap. Decoding of a request's body is in
neither: it is done once, for both. It takes a minute; with `--seconds 1` two.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from common import machine, table

from gproxy.protocols import strict
from gproxy.protocols.base import Protocol
from gproxy.protocols.registry import PROTOCOLS
from gproxy.protocols.sse import SseFramer
from gproxy.protocols.tap import StreamTap
from gproxy.translate import exchange
from gproxy.translate.assembly import deltas_of
from gproxy.translate.base import ClientFacts, TargetFacts
from gproxy.translate.foreign import without_foreign
from gproxy.translate.model import Added, Answer, Conversation, Delta, Reasoning, Text, ToolCall, Turn
from gproxy.translate.registry import DIALECTS
from gproxy.values import Usage

FIXTURE = Path(__file__).resolve().parents[1] / "tests" / "fixtures" / "translate" / "claude_code.json"
CLIENT = ClientFacts(model="my-alias", answer_id="7f", created=1764000000)
MODELS = {
    "openai_chat": "gpt-5.1",
    "openai_responses": "gpt-5.1",
    "anthropic_messages": "claude-sonnet-4-5",
    "gemini": "gemini-3.5-flash",
}
SMALL = Conversation(
    system=(Text("You are a helpful assistant. Answer briefly and to the point." * 4),),
    turns=(Turn("user", (Text("What is the capital of France, and why? " * 4),)),),
    max_output=200,
)
ANSWER = Answer(
    (Reasoning("Let me think. " * 20), Text("Paris. " * 100), ToolCall("call_1", "search", '{"q":"Paris"}')),
    "tools",
    Usage(100, 200, 50, reasoning_tokens=20),
)
EVENTS = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--seconds",
        type=float,
        default=0.5,
        help="CPU time for each figure (0.5); all takes some 130 times as long",
    )
    seconds = parser.parse_args().seconds
    print(machine())
    rows = [row(source, target, seconds) for source in sorted(DIALECTS) for target in sorted(DIALECTS)]
    heads = ("client", "target", "small µs", "Claude Code µs", "answer µs", "event µs")
    print(table(heads, rows))


def row(source: str, target: str, seconds: float) -> tuple[str, ...]:
    """One pair; the same dialect twice stands for what is not translated."""
    small = DIALECTS[source].write_request(SMALL, TargetFacts(model=MODELS.get(source, "m"))).tree
    code = DIALECTS["anthropic_messages"].read_request(json.loads(FIXTURE.read_text("utf-8"))).conversation
    large = DIALECTS[source].write_request(code, TargetFacts(model=MODELS.get(source, "m"), stream=True)).tree
    stream = stream_of(target)
    if source == target:
        work = untouched(source, small, large, stream)
    else:
        work = translated(source, target, small, large, stream)
    figures = [microseconds(run, seconds) for run in work]
    figures[-1] /= len(SseFramer().feed(stream))
    return (source, target if source != target else "(itself)", *(f"{figure:.1f}" for figure in figures))


def translated(source: str, target: str, small: Any, large: Any, stream: bytes) -> list[Callable[[], object]]:
    client, other = DIALECTS[source], DIALECTS[target]
    facts = TargetFacts(model=MODELS.get(target, "m"), stream=True)
    given = msgspec.json.encode(other.write_answer(ANSWER, CLIENT))

    def request(tree: Any) -> Callable[[], object]:
        return lambda: msgspec.json.encode(exchange.request(client, other, tree, facts).tree)

    def answer() -> object:
        return msgspec.json.encode(exchange.answer(other, client, msgspec.json.decode(given), CLIENT))

    def events() -> object:
        framer, translation = SseFramer(), exchange.StreamTranslation(other, client, CLIENT)
        return [translation.feed(event) for event in framer.feed(stream)] + [translation.end()]

    return [request(small), request(large), answer, events]


def untouched(name: str, small: Any, large: Any, stream: bytes) -> list[Callable[[], object]]:
    protocol: Protocol = next(p for p in PROTOCOLS if p.name == name)
    given = msgspec.json.encode(DIALECTS[name].write_answer(ANSWER, CLIENT))

    def request(tree: Any) -> Callable[[], object]:
        facts = protocol.read(strict.decode(msgspec.json.encode(tree)), "m", "")
        return lambda: (
            without_foreign(name, facts.body.tree, "another-model"),
            protocol.with_model(facts, "another-model", True),
        )

    def answer() -> object:
        return protocol.restore_body(given, "my-alias"), protocol.usage_in_body(given)

    def events() -> object:
        tap = StreamTap(protocol, SseFramer(), client_model="another", withhold_usage=False)
        return tap.feed(stream)

    return [request(small), request(large), answer, events]


def stream_of(target: str) -> bytes:
    writer = DIALECTS[target].writer(CLIENT)
    return b"".join(map(writer.feed, deltas())) + writer.end()


def deltas() -> Iterator[Delta]:
    """The answer as a stream whose text comes in `EVENTS` pieces."""
    for delta in deltas_of(ANSWER):
        if isinstance(delta, Added) and len(delta.text) > EVENTS:
            size = len(delta.text) // EVENTS
            yield from (Added(delta.text[at : at + size]) for at in range(0, len(delta.text), size))
        else:
            yield delta


def microseconds(run: Callable[[], object], seconds: float) -> float:
    """CPU time of one run: the best of five rounds."""
    best, rounds = float("inf"), 1
    while True:
        began = time.process_time()
        for _ in range(rounds):
            run()
        spent = time.process_time() - began
        if spent >= seconds / 5:
            break
        rounds *= 2
    for _ in range(5):
        began = time.process_time()
        for _ in range(rounds):
            run()
        best = min(best, (time.process_time() - began) / rounds)
    return best * 1e6


if __name__ == "__main__":
    main()
