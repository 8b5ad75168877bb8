from hypothesis import given
from hypothesis import strategies as st

from gproxy.ledger.rows import DETAILS, MOST_TOKENS, details_of, row_of
from gproxy.values import Usage
from tests.ledger.rows import record
from tests.ledger.test_store import COLUMNS


@given(st.integers(0, 10**15))
def test_nano_dollars_come_back_from_dollars_exactly(nano: int) -> None:
    cost_usd = row_of(record("req-1", cost_nano=nano))[COLUMNS.index("cost_usd") - 1]
    assert round(cost_usd * 1e9) == nano


@given(st.integers(-(10**30), 10**30))
def test_any_count_of_an_upstream_fits_its_column(count: int) -> None:
    row = row_of(record("req-1", usage=Usage(input_tokens=count, output_tokens=count)))
    for name in ("input_tokens", "output_tokens", "total_tokens"):
        assert 0 <= row[COLUMNS.index(name) - 1] <= MOST_TOKENS


def test_details_are_kept_where_there_is_more_than_a_count_of_nothing() -> None:
    assert details_of(Usage(input_tokens=5, input_audio_tokens=0)) is None
    assert details_of(Usage(service_tier="flex")) == ("flex", *[None] * len(DETAILS))
    assert details_of(Usage(web_searches=2)) == (None, *[None] * (len(DETAILS) - 1), 2)
