"""A stream of many lines is cut, and nothing of it is lost."""

from hypothesis import given
from hypothesis import strategies as st

from gproxy.protocols.portions import portions


@given(st.lists(st.sampled_from([b"\n", b"\r", b"a" * 300, b"data: {}\n\n"]), max_size=3000))
def test_portions_are_the_whole_and_none_has_many_lines(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    found = portions(data, b"\r\n", 512)
    assert b"".join(found) == data
    assert data == b"" or all(found)
    assert all(len(part) <= 1024 or len(part) * 2 < len(data) or len(found) == 1 for part in found)


def test_few_lines_stay_together() -> None:
    data = (b"data: " + b"x" * 500 + b"\n\n") * 200
    assert list(portions(data, b"\r\n", 512)) == [data]
