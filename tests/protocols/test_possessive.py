"""Both forms of a group that is repeated and gives nothing back find the same, and no pattern has one of its own."""

import re
import sys
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gproxy
from gproxy.protocols.possessive import MOST_TIMES, possessive

GROUPS = [rb"ab?c", rb'\\[^\x00-\x1f][^"\\\x00-\x1f]*+', rb'[^"\\]++|\\.', rb'(?<=[^\\]\\)"[^"]*+']
FORMS = [
    False,
    pytest.param(
        True,
        marks=pytest.mark.skipif(sys.version_info < (3, 11, 5), reason="such a group matches wrongly there"),
    ),
]


def taken(form: bytes, text: bytes) -> int:
    """How far it comes, in text that it may give some of back to what stands behind it."""
    found = re.compile(b"(" + form + b")", re.DOTALL).match(text)
    assert found is not None
    return found.end()


@pytest.mark.parametrize("by_itself", FORMS)
@pytest.mark.parametrize("group", GROUPS)
@given(text=st.text(alphabet='abc"\\\n', max_size=40).map(str.encode))
def test_it_takes_as_much_as_a_greedy_group_and_gives_nothing_back(
    group: bytes, by_itself: bool, text: bytes
) -> None:
    form = possessive(group, by_itself=by_itself)
    end = taken(b"(?:%b)*" % group, text)
    assert taken(form, text) == end
    assert re.compile(form + b".", re.DOTALL).match(text[:end]) is None


@pytest.mark.parametrize("by_itself", FORMS)
def test_half_a_group_is_none(by_itself: bool) -> None:
    assert re.fullmatch(possessive(b"ab?c", by_itself=by_itself), b"a") is None


@pytest.mark.parametrize("by_itself", FORMS)
def test_a_flood_of_groups_takes_no_memory_by_its_length(by_itself: bool) -> None:
    pattern = re.compile(possessive(rb'[^"\\]++|\\.', by_itself=by_itself))
    flood = rb"\n" * 1024 * 1024
    tracemalloc.start()
    try:
        found = pattern.match(flood)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found is not None
    assert found.end() == 2 * MOST_TIMES
    assert peak < 4 * 1024 * 1024


def test_no_pattern_repeats_a_group_possessively_but_by_it() -> None:
    package = Path(gproxy.__file__).parent
    having = {
        module.relative_to(package).as_posix()
        for module in package.rglob("*.py")
        if re.search(r"\)(?:[*+?]|\{[\d,%d]+\})\+", re.sub(r"\[(?:\\.|[^]\\\n])*\]", "", module.read_text()))
    }
    assert having == {"protocols/possessive.py"}
