"""What is drawn: JSON texts that few would write, and good ones with something in them changed.

Where they are sent, and what must come of it, is `targets.py`'s.
"""

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st


class Raw(str):
    """JSON text that is to stand as it is, whatever it says."""


ODD = [
    *("null", "true", "false", '""', "[]", "{}", "0", "-0", "-1", "1.5", "1e2", "1e308", "1e-400", "9" * 30),
    *(str(2**53), str(2**63), str(-(2**63) - 1), str(2**64), "0.0000001", "4e9", "[[]]", "[null]", "[{}]", "[0]"),
    *('{"":0}', '{"a":{"b":[1,"2",null]}}', '["a",1,null,{}]', '"\\u0000"', '"\\ud83d\\ude00"', '"é"', '"a/b"'),
    *('"data:,"', '"data:image/png;base64,x"', '"https://a.example/x.png"', '"{\\"a\\":"', '"{}"', '" "', '"m"'),
    '"' + "x" * 600 + '"',
]  # fmt: skip
"""Values that are JSON."""

WRONG = [
    *("1e999", "-1e999", "9" * 400, "NaN", "Infinity", "nul", "tru", "'a'", "01", "+1", "1.", ".5", "0x10", ""),
    *(",", "]", "}", '"\\ud800"', '"\\udc00\\ud800"', '"\\x"', '"\x01"', '"\n"', '"', "[" * 200 + "]" * 200),
    *('{"a":' * 200 + "1" + "}" * 200, "[" * 100_000, '{"a":1,"a":2}', "[1,]", "{,}", '{"a"}', "/**/1", "\ufeff1"),
]  # fmt: skip
"""Values that are none, or are beyond a limit."""

odd = st.sampled_from(ODD).map(Raw)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20) | odd,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
wrong = st.sampled_from(WRONG).map(Raw)


def text_of(value: Any) -> str:
    """JSON, with what is `Raw` in it as it is."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(name)}:{text_of(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(text_of, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def places(tree: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in a tree, its own first."""
    yield here
    if isinstance(tree, dict | list):
        for name, inner in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from places(inner, (*here, name))


def changed(tree: Any, place: tuple[Any, ...], new: Any) -> Any:
    """The tree with another value at a place, or with none if that is `Ellipsis`."""
    if not place:
        return {} if new is ... else new
    first, *rest = place
    inner = dict(enumerate(tree)) if isinstance(tree, list) else dict(tree)
    if not rest and new is ...:
        del inner[first]
    else:
        inner[first] = changed(inner[first], tuple(rest), new)
    return list(inner.values()) if isinstance(tree, list) else inner


@st.composite
def variants(draw: st.DrawFn, tree: Any, values: st.SearchStrategy[Any]) -> Any:
    """The tree with one or two of its values replaced or left out."""
    for _ in range(draw(st.integers(1, 2))):
        place = draw(st.sampled_from(list(places(tree))))
        tree = changed(tree, place, draw(st.just(...) | values))
    return tree


@st.composite
def damaged(draw: st.DrawFn, raw: bytes) -> bytes:
    """The bytes with some of them replaced, left out, or with others put in."""
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(raw)))
        raw = raw[:at] + draw(st.binary(max_size=4)) + raw[at + draw(st.integers(0, 4)) :]
    return raw


def pieces(raw: bytes, ends: list[int]) -> list[bytes]:
    """The bytes cut at some places."""
    cuts = sorted({end % (len(raw) + 1) for end in ends} | {0, len(raw)})
    return [raw[start:end] for start, end in pairwise(cuts)]
