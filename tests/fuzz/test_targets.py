"""What holds whatever is sent, tried for a moment; `benchmarks/fuzz.py` tries for longer."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.house import House
from tests.fuzz.targets import TARGETS


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with House(tmp_path_factory.mktemp("house")) as house:
        yield house


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_it_holds_whatever_is_sent(house: House, target: str, data: st.DataObject) -> None:
    TARGETS[target](house, data.draw)
