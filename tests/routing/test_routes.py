"""A name leads each key to what it may use of what is there, and is worked out once."""

from typing import Any

import pytest

from gproxy.config.snapshot import Snapshot
from gproxy.errors import BadRequest, Forbidden, NotFound
from gproxy.routing.routes import allow_others, find
from gproxy.values import Target
from tests.server.parts import snapshot

FILE = """
[[providers]]
name = "a"
channel = "openai"
[[providers]]
name = "b"
channel = "openai"
[[models]]
provider_name = "b"
model_id = "m"
[[model_aliases]]
alias = "both"
provider_name = "a"
model_id = "m"
targets = [{ provider_name = "b", model_id = "m" }, { provider_name = "b", model_id = "gone" }]
[[users]]
name = "wide"
[[users.keys]]
api_key = "sk-wide"
[[users]]
name = "narrow"
[[users.keys]]
api_key = "sk-narrow"
[[permissions]]
user_name = "wide"
model_pattern = "*"
[[permissions]]
user_name = "narrow"
provider_name = "b"
model_pattern = "*"
"""


@pytest.fixture
def here() -> Snapshot:
    return snapshot(FILE)


def test_the_same_name_leads_each_key_to_what_it_may_use(here: Snapshot) -> None:
    clients = {client.user: client for client in here.clients.values()}
    for _ in range(2):
        assert find(here, clients["wide"], "both").targets == (Target("a", "m"), Target("b", "m"))
        assert find(here, clients["narrow"], "both").targets == (Target("b", "m"),)
        assert not find(here, clients["wide"], "m", "a").aggregated
        assert find(here, clients["wide"], "m").targets == (Target("b", "m"),)
    assert find(here, clients["wide"], "both") is find(here, clients["wide"], "both")


@pytest.mark.parametrize(("name", "error"), [("x", BadRequest), ("a/m", Forbidden), ("b/x", NotFound)])
def test_what_leads_nowhere_is_refused_each_time(here: Snapshot, name: str, error: type[Exception]) -> None:
    client = next(client for client in here.clients.values() if client.user == "narrow")
    for _ in range(2):
        with pytest.raises(error):
            find(here, client, name)
    assert not here.routes


def test_a_bare_name_of_several_providers_is_told_each_key_by_what_it_may_use() -> None:
    here = snapshot('[[models]]\nprovider_name = "a"\nmodel_id = "m"\n' + FILE)
    said = {}
    for client in here.clients.values():
        with pytest.raises(BadRequest) as refused:
            find(here, client, "m")
        said[client.user] = refused.value.message
    assert 'Write it as "a/m" or "b/m", ' in said["wide"]
    assert 'Write it as "b/m", ' in said["narrow"]
    assert all("several providers list it" in each for each in said.values())


@pytest.mark.parametrize("field", ["models", "fallbacks"])
def test_what_an_upstream_is_to_fall_back_to_has_to_be_allowed_and_there_too(
    here: Snapshot, field: str
) -> None:
    clients = {client.user: client for client in here.clients.values()}
    wide, narrow = clients["wide"], clients["narrow"]
    at_a, at_b = find(here, wide, "a/x"), find(here, narrow, "b/m")
    good: list[Any] = [["y", {"model": "z"}], "y", [], None]
    for others in good:
        allow_others(here, wide, at_a, {"model": "x", field: others})
    allow_others(here, narrow, at_b, {"model": "m", field: ["m"]})
    with pytest.raises(Forbidden):
        allow_others(here, narrow, at_a, {"model": "x", field: ["y"]})
    with pytest.raises(NotFound):
        allow_others(here, narrow, at_b, {"model": "m", field: ["gone"]})
    bad: list[Any] = [[1], [None], 1, {"a": "b"}, [["y"]], ["y"] * 33]
    for others in bad:
        with pytest.raises(BadRequest):
            allow_others(here, wide, at_a, {"model": "x", field: others})
