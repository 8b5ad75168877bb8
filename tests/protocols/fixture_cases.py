"""The recorded cases under `tests/fixtures/<dialect>/<case>/`, read for the tests that walk them.

`request.json`, then `answer.json`, `stream.txt` (SSE) or `stream.json.txt` (a JSON array), and `expected.json`.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gproxy.protocols.base import Body, Facts, Protocol
from gproxy.protocols.json_array import JsonArrayFramer
from gproxy.protocols.registry import PROTOCOLS
from gproxy.protocols.sse import SseFramer
from gproxy.protocols.strict import decode
from gproxy.protocols.tap import Framer
from gproxy.values import Usage

_ROOT = Path(__file__).parents[1] / "fixtures"
CLIENT_MODEL = 'my "alias"/ä'


@dataclass(frozen=True)
class Case:
    folder: Path
    expected: dict[str, Any]

    @property
    def protocol(self) -> Protocol:
        return next(p for p in PROTOCOLS if p.operation == self.expected["operation"])

    @property
    def body(self) -> Body:
        return decode((self.folder / "request.json").read_bytes())

    @property
    def facts(self) -> Facts:
        return self.protocol.read(self.body, self.expected["model"], self.expected.get("query", ""))

    @property
    def answer(self) -> bytes:
        return (self.folder / "answer.json").read_bytes()

    @property
    def stream(self) -> bytes:
        return next(self.folder.glob("stream*")).read_bytes()

    @property
    def is_stream(self) -> bool:
        return not (self.folder / "answer.json").exists()

    @property
    def usage(self) -> Usage | None:
        fields = self.expected["usage"]
        return None if fields is None else Usage(**fields)

    def framer(self) -> Framer:
        return JsonArrayFramer() if (self.folder / "stream.json.txt").exists() else SseFramer()


def _all() -> dict[str, Case]:
    found = sorted(_ROOT.glob("*/*/expected.json"))
    return {
        f"{path.parent.parent.name}-{path.parent.name}": Case(path.parent, json.loads(path.read_text()))
        for path in found
    }


CASES = _all()
STREAMS = {name: case for name, case in CASES.items() if case.is_stream}
ANSWERS = {name: case for name, case in CASES.items() if not case.is_stream}
