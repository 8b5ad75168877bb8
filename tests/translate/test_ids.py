"""Ids and names fit where they go, stay different from one another, and those of a target can be got back."""

import re

from hypothesis import given
from hypothesis import strategies as st

from gproxy.translate import ids

NINE = re.compile(r"[A-Za-z0-9]{9}")
FORTY = re.compile(r"[A-Za-z0-9_-]{1,40}")
ANTHROPIC = re.compile(r"[A-Za-z0-9_-]+")
names = st.text(min_size=1) | st.text("abc_-.:/", min_size=1, max_size=200)


@given(names)
def test_a_client_is_shown_ids_that_its_dialect_allows_and_that_lead_back(call_id: str) -> None:
    assert ANTHROPIC.fullmatch(ids.shown(call_id))
    assert ids.original(ids.shown(call_id)) == call_id


@given(st.text())
def test_an_id_of_the_clients_own_stays_as_it_is(call_id: str) -> None:
    found = ids.original(call_id)
    assert found == call_id or ids.shown(found) == call_id


def test_an_id_that_is_allowed_is_shown_as_it_is() -> None:
    assert ids.shown("toolu_01D7FLrfh4GYq7yT1ULFeyMV") == "toolu_01D7FLrfh4GYq7yT1ULFeyMV"


@given(names, names)
def test_ids_for_a_target_fit_and_stay_different(one: str, other: str) -> None:
    for valid, longest in ((NINE, 9), (FORTY, 40)):
        fitted = ids.fitting(one, valid, longest)
        assert valid.fullmatch(fitted)
        assert fitted == ids.fitting(one, valid, longest)
        assert (fitted == ids.fitting(other, valid, longest)) == (one == other)


@given(names, names)
def test_names_of_tools_fit_and_stay_different(one: str, other: str) -> None:
    fitted = ids.fitting_name(one, 64)
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", fitted)
    assert (fitted == ids.fitting_name(other, 64)) == (one == other)


def test_a_name_that_fits_is_not_changed() -> None:
    assert ids.fitting_name("mcp__server__tool", 64) == "mcp__server__tool"
