"""Prices of one process: what the file says before the table, looked up before they are needed."""

import sys

from gproxy.ledger.pricebook import PriceBook
from gproxy.server.request.prices import Prices, pricing_command
from gproxy.server.tasks import Tasks
from gproxy.values import Target
from tests.server.parts import ALICE, snapshot, table_price

PROVIDER = '[[providers]]\nname = "{}"\nchannel = "openai"\ncredentials = [{{ api_key = "sk-upstream" }}]\n'
HERE = snapshot(
    PROVIDER.format("up")
    + PROVIDER.format("other")
    + """
[[models]]
provider_name = "up"
model_id = "priced"
price_each_call = 0.5
[[models]]
provider_name = "up"
model_id = "plain"
[[model_aliases]]
alias = "a"
provider_name = "other"
model_id = "aliased"
"""
    + ALICE
)

# A program in place of the one that knows prices: it gives a line for each that it is asked.
PRICE = table_price(1000)
TABLE = (sys.executable, "-Sc", f"import sys\nfor _ in sys.stdin: print('{PRICE}')")
NONE = (sys.executable, "-Sc", "import sys\nfor _ in sys.stdin: print('null')")
NEVER = (sys.executable, "-Sc", "import time; time.sleep(60)")


async def test_what_the_file_says_comes_first_and_waits_for_nothing() -> None:
    price = await Prices(PriceBook(NEVER), Tasks()).of(HERE, Target("up", "priced"))
    assert price is not None
    assert (price.source, price.rates.per_call) == ("config", 500_000_000)


async def test_what_the_file_leaves_open_the_table_says() -> None:
    prices = Prices(PriceBook(TABLE), Tasks())
    assert prices.configured(HERE, Target("up", "plain")) is None
    assert prices.configured(HERE, Target("other", "any")) is None
    for target in (Target("up", "plain"), Target("other", "any")):
        price = await prices.of(HERE, target)
        assert price is not None
        assert price.source == "table"


async def test_a_channel_that_brings_its_own_price_asks_no_table_and_gives_way_to_the_file() -> None:
    demo = '[[providers]]\nname = "d"\nchannel = "demo"\n'
    row = '[[models]]\nprovider_name = "d"\nmodel_id = "m"\nprice_each_call = 0.5\n'
    prices, target = Prices(PriceBook(NEVER), Tasks()), Target("d", "m")
    own, set_here = [await prices.of(snapshot(text + ALICE), target) for text in (demo, demo + row)]
    assert own is not None
    assert set_here is not None
    (tier,) = own.rates.tiers
    assert (own.source, tier.input, tier.output) == ("channel", 1_000_000_000, 2_000_000_000)
    assert (set_here.source, set_here.rates.per_call) == ("config", 500_000_000)
    assert prices.lasting(snapshot(demo + ALICE), target)


async def test_a_price_that_nobody_knows_is_none() -> None:
    assert await Prices(PriceBook(NONE), Tasks()).of(HERE, Target("up", "plain")) is None


async def test_warming_looks_up_every_model_that_the_file_names_without_a_price() -> None:
    book = PriceBook(TABLE)
    await Prices(book, Tasks()).warm(HERE)
    known = [model for model in ("priced", "plain", "aliased") if book.known("openai", model)]
    assert known == ["plain", "aliased"]


async def test_a_request_on_its_way_has_its_price_looked_up_meanwhile() -> None:
    book, tasks = PriceBook(TABLE), Tasks()
    Prices(book, tasks).foresee(HERE, Target("up", "new"))
    assert not book.known("openai", "new")
    await tasks.drain(5)
    assert book.known("openai", "new")


async def test_a_request_whose_price_the_file_has_asks_nobody() -> None:
    book, tasks = PriceBook(TABLE), Tasks()
    Prices(book, tasks).foresee(HERE, Target("up", "priced"))
    await tasks.drain(5)
    assert not book.known("openai", "priced")


async def test_what_is_at_hand_is_the_files_price_else_what_the_table_was_asked_before() -> None:
    prices = Prices(PriceBook(TABLE), Tasks())
    assert prices.at_hand(HERE, Target("up", "plain")) is None
    known = await prices.of(HERE, Target("up", "plain"))
    assert known is not None
    assert prices.at_hand(HERE, Target("up", "plain")) is known
    priced = prices.at_hand(HERE, Target("up", "priced"))
    assert priced is not None
    assert priced.source == "config"


async def test_what_the_table_was_asked_before_it_says_at_once_of_a_time_too() -> None:
    prices, target = Prices(PriceBook(TABLE), Tasks()), Target("up", "plain")
    assert prices.builtin_at_hand(HERE, target, 0.0) == (False, None)
    known = await prices.builtin(HERE, target, 0.0)
    assert known is not None
    assert prices.builtin_at_hand(HERE, target, 0.0) == (True, known)
    nobodys = Prices(PriceBook(NONE), Tasks())
    assert await nobodys.builtin(HERE, target, 0.0) is None
    assert nobodys.builtin_at_hand(HERE, target, 0.0) == (True, None)


def test_a_new_configuration_prices_anew() -> None:
    prices, target = Prices(PriceBook(), Tasks()), Target("up", "priced")
    model = '[[models]]\nprovider_name = "up"\nmodel_id = "priced"\nprice_each_call = {}\n'
    dear = snapshot(PROVIDER.format("up") + model.format(7.0))
    found = [prices.configured(each, target) for each in (HERE, HERE, dear, HERE)]
    assert [price and price.rates.per_call for price in found] == [5 * 10**8, 5 * 10**8, 7 * 10**9, 5 * 10**8]


def test_the_command_that_sets_a_price_adds_what_the_file_does_not_list() -> None:
    amounts = "--input USD --output USD"
    told = pricing_command(HERE, Target("up", "plain")), pricing_command(HERE, Target("other", "a b"))
    assert told == (
        f"gproxy models price up/plain {amounts}",
        f"gproxy models price 'other/a b' {amounts} --add",
    )
