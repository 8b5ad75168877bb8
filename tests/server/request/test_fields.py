import pytest

from gproxy.errors import BadRequest
from gproxy.server.request.fields import Fields


def test_headers_are_found_by_name_and_one_that_may_come_once_comes_once() -> None:
    fields = Fields(((b"a", b" 1 "), (b"b", b"2"), (b"a", b"3")))
    assert (fields.all(b"a"), fields.all(b"b"), fields.all(b"c")) == (["1", "3"], ["2"], [])
    assert (fields.one(b"b"), fields.one(b"c")) == ("2", "")
    assert b"a" in fields.by_name
    assert b"c" not in fields.by_name
    with pytest.raises(BadRequest):
        fields.one(b"a")
    assert Fields(((b"a", b" 1 "),)).all(b"a") == ["1"]
