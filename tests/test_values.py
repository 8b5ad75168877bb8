"""Values stay as they were made, and a total is never made up."""

import pytest

from gproxy.values import Route, Target, Usage


@pytest.mark.parametrize(
    ("usage", "total"),
    [
        (Usage(), None),
        (Usage(cache_read_tokens=3, cost_nano=1), None),
        (Usage(input_tokens=0), 0),
        (Usage(input_tokens=2), 2),
        (Usage(output_tokens=3), 3),
        (Usage(input_tokens=2, output_tokens=3, cache_read_tokens=2, reasoning_tokens=3), 5),
    ],
)
def test_a_total_is_input_and_output_and_unreported_without_either(usage: Usage, total: int | None) -> None:
    """Cached tokens are inside the input, reasoning is inside the output: neither is added again."""
    assert usage.total_tokens == total


@pytest.mark.parametrize(
    ("value", "name"), [(Usage(), "input_tokens"), (Target("a", "m"), "model"), (Route("m", ()), "alias")]
)
def test_a_value_cannot_be_written_into(value: object, name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(value, name, 1)
