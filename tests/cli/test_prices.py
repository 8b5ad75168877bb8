import json
from pathlib import Path
from typing import Any

import pytest

from gproxy.cli.prices import beside_tokens, rows, tree
from gproxy.ledger.pricing import Apart, Price, Rates, Tier
from tests.cli.conftest import MINIMAL, Run

PRICED = """
[[providers]]
name = "main"
channel = "openai"

[[models]]
provider_name = "main"
model_id = "mine"
price_each_call = 0.01
price_tiers = [
  { input_tokens_up_to = 1000, price_input_tokens = 0.4, price_output_tokens = 1.6 },
  { price_input_tokens = 0.8, price_output_tokens = 3.2, price_cache_read_input_tokens = 0.08 },
]
flex_price_each_call = 0.005

[[models]]
provider_name = "main"
model_id = "gpt-5"

[[model_aliases]]
alias = "chat"
provider_name = "local"
model_id = "some"
"""


@pytest.fixture
def priced(file: Path) -> None:
    file.write_text(MINIMAL + PRICED)


def listed(run: Run, *names: str) -> list[Any]:
    found: list[Any] = json.loads(run("models", "prices", *names, "--json").out)
    return found


@pytest.mark.usefixtures("priced")
def test_each_model_of_the_file_has_its_price_and_where_it_is_from(run: Run) -> None:
    mine, table, unknown = listed(run)
    assert (mine["model"], mine["source"], mine["each_call_usd"]) == ("main/mine", "config", 0.01)
    assert [(tier["up_to"], tier["input"], tier["cache_read"]) for tier in mine["tiers"]] == [
        (1000, 0.4, 0.4),
        (None, 0.8, 0.08),
    ]
    assert mine["classes"]["flex"]["each_call_usd"] == 0.005
    assert table["source"].startswith("genai-prices ")
    assert table["classes"]["priority"]["tiers"][0]["input"] == 2 * table["tiers"][0]["input"]
    assert (unknown["model"], unknown["source"], unknown["tiers"]) == ("local/some", None, [])


@pytest.mark.usefixtures("priced")
def test_people_get_a_line_for_each_tier_and_are_told_what_to_set_where_none_is_known(run: Run) -> None:
    ran = run("models", "prices")
    assert ran.code == 0
    assert [line.split() for line in ran.out.splitlines()[1:]] == [
        ["main/mine", "config", "1000", "0.4", "1.6", "0.4", "0.4", "0.4"],
        ["main/mine", "config", "-", "0.8", "3.2", "0.08", "0.8", "0.8"],
        ["main/gpt-5", "table", "-", "1.25", "10", "0.125", "1.25", "1.25"],
        ["local/some", "(chat)", "-", "-", "-", "-", "-", "-", "-"],
    ]
    assert "local/some: unknown; `gproxy models price local/some` sets it, in [[models]]." in ran.err
    assert "gproxy models prices main/mine" in ran.err


@pytest.mark.usefixtures("priced")
def test_a_model_by_any_name_of_it_is_shown_in_full(run: Run) -> None:
    assert [row["model"] for row in listed(run, "chat", "gpt-5")] == ["local/some", "main/gpt-5"]
    ran = run("models", "prices", "main/mine", "chat")
    assert ran.code == 0
    for text in (
        "main/mine, USD per million tokens, by config:",
        "each call in flex: 0.005 USD",
        "cache write",
    ):
        assert text in ran.out
    assert max(map(len, ran.out.splitlines())) <= 80
    assert "local/some: unknown" in ran.err


@pytest.mark.usefixtures("priced")
def test_a_name_that_stands_for_nothing_fails_and_says_so(run: Run) -> None:
    ran = run("models", "prices", "nope")
    assert (ran.code, ran.out) == (1, "")
    assert "nope" in ran.err


@pytest.mark.usefixtures("priced")
def test_a_bare_name_that_several_providers_list_is_told_whose_it_is(run: Run, file: Path) -> None:
    rows = [f'[[models]]\nprovider_name = "{name}"\nmodel_id = "both"\n' for name in ("main", "local")]
    file.write_text("\n".join([MINIMAL + PRICED, *rows]))
    ran = run("models", "prices", "both")
    assert (ran.code, ran.out) == (1, "")
    assert '"local/both" or "main/both"' in " ".join(ran.err.split())


def test_a_file_that_names_no_model_says_how_to_ask(run: Run, file: Path) -> None:
    ran = run("models", "prices")
    assert (ran.code, ran.out) == (0, "")
    assert "PROVIDER/MODEL" in ran.err


def test_only_what_differs_from_text_is_told_apart() -> None:
    tier = Tier(None, 10**9, 2 * 10**9, 0, 0, 0, Apart(3 * 10**9, 10**9, 0, 0, 2 * 10**9, 2 * 10**9, 10**6))
    found = tree(Price("s", Rates((tier,), per_search=10**7)), "openai")
    assert beside_tokens(found) == [
        "each web search: 0.01 USD",
        "apart from text: input audio 3, reasoning 0.001",
    ]
    assert rows(found) == [
        {"input": "1", "output": "2", "cache read": "0", "cache write": "0", "cache write 1h": "0"}
    ]


def test_a_price_of_searches_that_is_not_applied_is_not_shown() -> None:
    price = Price("s", Rates(per_search=10**7))
    assert beside_tokens(tree(price, "anthropic")) == ["each web search: 0.01 USD"]
    for channel in ("gemini", "vertex"):
        found = tree(price, channel)
        assert (found["each_search_usd"], beside_tokens(found)) == (None, [])


@pytest.mark.usefixtures("priced")
def test_a_model_is_listed_with_its_aliases(run: Run) -> None:
    assert [(row["model"], row["aliases"]) for row in listed(run)] == [
        ("main/mine", []),
        ("main/gpt-5", []),
        ("local/some", ["chat"]),
    ]
