"""Written in steps, however small, a text or a tree is what it is when written at once; and no step is long."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gproxy.protocols import jsonwalk, writing
from tests.fuzz.shapes import anything, text_of
from tests.kit.stalls import holds_up_for_less, longest_hold


@pytest.fixture(params=[1, 3, 1000])
def small(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "STEP_CHARS", request.param)


@pytest.mark.usefixtures("small")
@given(text=st.text(max_size=30), places=st.lists(st.integers(0, 30), max_size=6, unique=True), new=st.text())
def test_a_text_is_changed_as_it_is_at_once(text: str, places: list[int], new: str) -> None:
    cuts = sorted(min(place, len(text)) for place in places)
    edits = [(start, end, new) for start, end in zip(cuts[::2], cuts[1::2], strict=False) if start < end]
    assert writing.edited(text, edits) == jsonwalk.edited(text, edits).encode()


@pytest.mark.usefixtures("small")
@given(tree=anything.map(text_of).map(json.loads))
def test_a_tree_is_written_as_the_encoder_writes_it(tree: Any) -> None:
    try:
        whole = msgspec.json.encode(tree)
    except OverflowError:
        assert json.loads(writing.of_tree(tree)) == tree
    else:
        assert writing.of_tree(tree) == whole


LONG = {
    "escapes": '\n\x01"\\' * 5_000_000,
    "no ASCII": "é雪😀" * 10_000_000,
}


@pytest.mark.parametrize("kind", LONG)
@pytest.mark.parametrize("way", ["edited", "of_tree"])
def test_no_step_is_long(kind: str, way: str) -> None:
    text = LONG[kind]
    works: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "edited": (
            lambda: writing.edited(text, [(5, 6, "x")]),
            lambda: jsonwalk.edited(text, [(5, 6, "x")]).encode(),
        ),
        "of_tree": (lambda: writing.of_tree({"a": [text]}), lambda: msgspec.json.encode({"a": [text]})),
    }
    in_steps, at_once = works[way]
    # At once it is up to 0.2 s, in steps a twentieth of that; a busy machine makes both longer.
    if not holds_up_for_less(0.1, in_steps):
        assert holds_up_for_less(min(longest_hold(at_once) for _ in range(3)) / 2, in_steps)
