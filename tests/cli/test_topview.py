"""The picture as lines, whatever the size and whatever it holds."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from gproxy.cli.topview import LEAST_WIDTH, lines


def picture(name: str = "big-model", count: int = 2, running: bool = True) -> dict[str, Any]:
    at = "2026-11-25T12:00:00.000Z"
    used = {"requests": 12, "errors": 3, "total_tokens": 123_456, "cost_usd": 0.25}
    return {
        "at": at,
        "running": running,
        "in_flight": count,
        "requests_per_s": 1.25,
        "tokens_per_s": 20_500.0,
        "today": {"since": at, **used, "by": [{"provider": "up", "model": name, **used}] * count},
        "credentials": [
            {
                "provider": "up",
                "credential": "team",
                "model": name,
                "state": "cooling",
                "until": at,
                "last_failed_at": at,
                "last_error": "status 429",
            }
        ]
        * count,
        "open": [
            {"requested_model": name, "request_id": "r", "seconds": 3.25, "user": "alice", "stream": True}
        ]
        * count,
        "errors": [
            {
                "started_at": at,
                "status": 502,
                "user": "alice",
                "requested_model": name,
                "error": name,
                "outcome": "x",
            }
        ]
        * count,
    }


def test_all_of_it_is_told() -> None:
    told = "\n".join(lines(picture(), 80))
    for part in ("in flight 2", "1.2 requests/s", "20.5k tokens/s", "0.250000 USD", "up/big-model", "123.5k"):
        assert part in told
    for part in (
        "up team for big-model",
        "cooling",
        "status 429",
        "3.2 s  alice stream",
        "502 alice big-model:",
    ):
        assert part in told
    assert "NO SERVER" not in told
    assert "NO SERVER" in lines(picture(running=False), 80)[0]


@given(st.text(st.characters(exclude_characters="…"), max_size=60), st.integers(0, 3))
def test_where_there_is_no_width_nothing_is_cut(name: str, count: int) -> None:
    told = lines(picture(name, count), None)
    assert all(line.isprintable() and "…" not in line for line in told)


def test_where_there_is_no_width_the_longest_name_says_where_columns_begin() -> None:
    seen = picture("m" * 50)
    seen["today"]["by"][1] = seen["today"]["by"][1] | {"model": "small"}
    heading, long, short = lines(seen, None)[4:7]
    assert long.startswith(f"up/{'m' * 50} ")
    assert len(heading) == len(long) == len(short)


def test_a_part_that_is_empty_is_not_shown() -> None:
    assert len(lines(picture(count=0), 80)) == 3


def test_each_part_has_rows_where_there_is_not_room_for_all() -> None:
    told = lines(picture(count=50), 80, 24)
    assert len(told) == 24
    for part in ("TODAY", "CREDENTIALS", "IN FLIGHT", "LAST ERRORS"):
        assert any(line.startswith(part) for line in told), part
    assert any("of 50" in line for line in told)


@given(
    st.text(max_size=60),
    st.integers(0, 40),
    st.integers(1, 200),
    st.integers(1, 60),
)
def test_nothing_is_wider_or_higher_than_the_window_and_nothing_is_obeyed(
    name: str, count: int, width: int, height: int
) -> None:
    told = lines(picture(name, count), width, height)
    assert 1 <= len(told) <= height
    for line in told:
        assert cell_len(line) <= max(width, LEAST_WIDTH)
        assert line.isprintable()


@pytest.mark.parametrize("cost", [None, 0.0, 123456.789])
def test_a_cost_is_told_in_its_column(cost: float | None) -> None:
    shown = picture()
    shown["today"]["by"][0]["cost_usd"] = cost
    assert all(len(line) <= 80 for line in lines(shown, 80))


def test_what_is_out_comes_first_and_what_the_file_has_off_after_it() -> None:
    seen = picture(count=1)
    (one,) = seen["credentials"]
    seen["credentials"] = [
        {**one, "credential": name, "state": state, "until": None, "last_failed_at": failed}
        for name, state, failed in (
            ("fine", "ready", None),
            ("off", "disabled", None),
            ("slow", "cooling", "2026-11-25T12:00:00.000Z"),
            ("refused", "disabled", "2026-11-25T12:00:00.000Z"),
        )
    ]
    told = lines(seen, 80)
    start = told.index("CREDENTIALS")
    assert [line.split()[1] for line in told[start + 1 : start + 5]] == ["refused", "slow", "off", "fine"]


def test_equal_errors_are_one_line_with_their_count() -> None:
    seen = picture(count=3)
    seen["errors"] += [{**seen["errors"][0], "user": "bob"}]
    told = lines(seen, 80)
    errors = told[told.index("LAST ERRORS") + 1 :]
    assert [line.split(" ", 1)[1] for line in errors] == [
        "3 x 502 alice big-model: big-model",
        "502 bob big-model: big-model",
    ]


@pytest.mark.parametrize("count", [0, 1, 50])
def test_the_last_line_of_a_window_says_how_to_leave(count: int) -> None:
    told = lines(picture(count=count), 80, 24, "q quits")
    assert (len(told), told[-1]) == (24, "q quits")
    assert "q quits" not in lines(picture(count=count), 80, 1, "q quits")
