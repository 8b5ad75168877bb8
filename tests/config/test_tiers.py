"""What a price that is set makes of a model's tiers, and that the rest of the file stays as it is."""

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gproxy.config.document import Document
from gproxy.config.schema import PriceTier
from gproxy.config.tiers import set_price
from gproxy.errors import ConfigError

HEAD = """\
[[providers]]
name = "up"
channel = "custom"
settings = { base_url = "http://h:1" }

# what it serves
[[models]]
provider_name = "up"  # ours
model_id = "a"
"""
TAIL = '\n[[models]]\nprovider_name = "up"\nmodel_id = "b"  # free\n'
FORMS = {
    "a line": "price_tiers = [{ price_input_tokens = 1, price_output_tokens = 2.0 }]  # mine\n",
    "lines": "price_tiers = [\n  # the only one\n  { price_input_tokens = 1, price_output_tokens = 2.0 }, # t\n]\n",
    "sections": "\n[[models.price_tiers]]\nprice_input_tokens = 1  # in\nprice_output_tokens = 2.0  # out\n",
}
INPUT, OUTPUT, UP_TO = "price_input_tokens", "price_output_tokens", "input_tokens_up_to"
READ, WRITE = "price_cache_read_input_tokens", "price_cache_creation_input_tokens"


def comments(text: str) -> list[str]:
    return [line.partition("#")[2] for line in text.splitlines() if "#" in line]


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_price_that_is_there_changes_in_its_place_and_the_rest_stays(form: str) -> None:
    document = Document(HEAD + form + TAIL)
    set_price(document, "up", "a", {INPUT: 3.5})
    assert document.text == (HEAD + form + TAIL).replace("tokens = 1", "tokens = 3.5")


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_price_above_a_length_divides_the_tier_and_keeps_every_comment(form: str) -> None:
    document = Document(HEAD + form + TAIL)
    tiers = set_price(document, "up", "a", {INPUT: 2.0, OUTPUT: 4.0}, above=1000)
    assert tomllib.loads(document.text)["models"][0]["price_tiers"] == tiers
    assert tiers == [{INPUT: 1, OUTPUT: 2.0, UP_TO: 1000}, {INPUT: 2.0, OUTPUT: 4.0}]
    assert comments(document.text) == comments(HEAD + form + TAIL)
    assert document.text.endswith(TAIL)


def test_a_first_price_is_written_as_others_are() -> None:
    document = Document(HEAD + TAIL)
    set_price(document, "up", "a", {INPUT: 0.25, OUTPUT: 2.0, READ: None})
    row = "price_tiers = [{ price_input_tokens = 0.25, price_output_tokens = 2.0 }]\n"
    assert document.text == HEAD + row + TAIL


def test_a_price_of_the_cache_comes_and_goes() -> None:
    document = Document(HEAD + FORMS["a line"] + TAIL)
    set_price(document, "up", "a", {READ: 0.5})
    assert document.tables("models", 0, "price_tiers")[0][READ] == 0.5
    set_price(document, "up", "a", {READ: None})
    assert document.text == HEAD + FORMS["a line"] + TAIL


@pytest.mark.parametrize("prices", [{INPUT: 1.0}, {OUTPUT: 1.0, READ: 1.0}])
def test_a_first_tier_needs_input_and_output(prices: dict[str, float | None]) -> None:
    document = Document(HEAD + TAIL)
    with pytest.raises(ConfigError, match="give both --input and --output"):
        set_price(document, "up", "a", prices)
    assert document.text == HEAD + TAIL


def test_a_price_that_is_not_given_stays_above_a_length_too() -> None:
    document = Document(HEAD + FORMS["a line"] + TAIL)
    set_price(document, "up", "a", {READ: 0.5})
    tiers = set_price(document, "up", "a", {INPUT: 4.0}, above=1000)
    assert tiers[1] == {INPUT: 4.0, OUTPUT: 2.0, READ: 0.5}


@pytest.mark.parametrize("usd", [3.0, None])
def test_a_price_of_cache_writes_takes_the_place_of_one_for_those_of_five_minutes(usd: float | None) -> None:
    tier = f"{{ {INPUT} = 1, {OUTPUT} = 2, {WRITE}_5min = 9.0, {WRITE}_1h = 7.0 }}"
    document = Document(f"{HEAD}price_tiers = [{tier}]\n{TAIL}")
    set_price(document, "up", "a", {READ: 0.5})
    assert document.tables("models", 0, "price_tiers")[0][f"{WRITE}_5min"] == 9.0
    (priced,) = (PriceTier(**tier) for tier in set_price(document, "up", "a", {WRITE: usd}))
    assert priced.price_cache_creation_input_tokens == usd
    assert priced.price_cache_creation_input_tokens_5min is None
    assert priced.price_cache_creation_input_tokens_1h == 7.0


def test_a_tier_that_is_none_is_told_of() -> None:
    tiers = f'price_tiers = [{{ {UP_TO} = "100", {INPUT} = 1 }}, {{ {INPUT} = 2 }}]\n'
    with pytest.raises(ConfigError, match="`gproxy check` says where"):
        set_price(Document(HEAD + tiers + TAIL), "up", "a", {INPUT: 1.0}, above=5)


def test_above_a_length_alone_is_no_price() -> None:
    with pytest.raises(ConfigError, match="without --above first"):
        set_price(Document(HEAD + TAIL), "up", "a", {INPUT: 1.0, OUTPUT: 1.0}, above=5)


def test_a_model_comes_into_the_file_only_where_that_is_asked_for() -> None:
    document = Document(HEAD + TAIL)
    prices: dict[str, float | None] = {INPUT: 1.0, OUTPUT: 2.0}
    with pytest.raises(ConfigError, match=r"up/new is not in \[\[models\]\]: --add puts it there"):
        set_price(document, "up", "new", prices)
    with pytest.raises(ConfigError, match="there is no provider gone"):
        set_price(document, "gone", "new", prices, add=True)
    set_price(document, "up", "new", prices, add=True)
    assert document.tables("models")[2] == {
        **{"provider_name": "up", "model_id": "new"},
        "price_tiers": [{INPUT: 1.0, OUTPUT: 2.0}],
    }


def paid(tiers: list[dict[str, Any]], tokens: int) -> float | None:
    """What input costs in a request of so many tokens: by the first tier that it fits, else the last."""
    found = [PriceTier(**tier) for tier in tiers]
    fitting = (t for t in found if t.input_tokens_up_to is None or tokens <= t.input_tokens_up_to)
    return next(fitting, found[-1]).price_input_tokens


@given(
    bounds=st.lists(st.integers(1, 50), unique=True, max_size=4).map(sorted),
    ends=st.booleans(),
    above=st.integers(0, 60),
)
def test_a_price_above_a_length_holds_from_there_to_the_next_bound_and_nowhere_else(
    bounds: list[int], ends: bool, above: int
) -> None:
    before = [{UP_TO: bound, INPUT: float(n), OUTPUT: 0.0} for n, bound in enumerate(bounds)]
    if ends or not before:
        before.append({INPUT: 99.0, OUTPUT: 0.0})
    rows = ", ".join(f"{{ {', '.join(f'{k} = {v}' for k, v in tier.items())} }}" for tier in before)
    document = Document(f"{HEAD}price_tiers = [{rows}]\n{TAIL}")
    after = set_price(document, "up", "a", {INPUT: 1000.0, OUTPUT: 1.0}, above=above)
    assert document.tables("models", 0, "price_tiers") == after
    inner = [tier[UP_TO] for tier in before[:-1]]
    end = next((bound for bound in inner if bound > above), 10**9)
    for tokens in range(70):
        changed = (above < tokens or above == tokens == 0) and tokens <= end
        assert paid(after, tokens) == (1000.0 if changed else paid(before, tokens)), tokens
