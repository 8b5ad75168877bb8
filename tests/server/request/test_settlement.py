"""Rows and prices at the end of a request, against a real store."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from gproxy.errors import Unavailable
from gproxy.ledger import sqlite, writer
from gproxy.ledger.accounts import Accounts
from gproxy.ledger.pricebook import PriceBook
from gproxy.ledger.spend import spent
from gproxy.ledger.sqlite import connect
from gproxy.ledger.writer import Writer
from gproxy.protocols import estimate
from gproxy.routing.failover import Tried
from gproxy.server.request import settlement
from gproxy.server.request.journal import Journal
from gproxy.server.request.prices import Prices
from gproxy.server.request.settlement import Settlement
from gproxy.server.tasks import Tasks
from gproxy.values import Claim, Route, Target, Usage
from tests.server.parts import ALICE, SECRET, call, rows, snapshot, table_price

FILE = f"""
[[providers]]
name = "up"
channel = "openai"
credentials = [{{ api_key = "{SECRET}" }}]
[[models]]
provider_name = "up"
model_id = "priced"
price_tiers = [{{ price_input_tokens = 2.0, price_output_tokens = 8.0 }}]
[[models]]
provider_name = "up"
model_id = "plain"
"""
HERE = snapshot(FILE + ALICE)
SILENT = snapshot("[global]\nenable_usage = false\n" + FILE + ALICE)
USED = Usage(input_tokens=10, output_tokens=5)

# Programs in place of the one that knows prices: it gives a line for each that it is asked.
PRICE = table_price(1_000_000_000)
TABLE = (sys.executable, "-Sc", f"import sys\nfor _ in sys.stdin: print('{PRICE}')")
NEVER = (sys.executable, "-Sc", "import time; time.sleep(60)")


class Books:
    """A settlement over a store of its own."""

    def __init__(self, path: Path, command: tuple[str, ...]) -> None:
        self.path = path
        self.writer = Writer(path)
        self.writer.start()
        self.tasks = Tasks()
        prices = Prices(PriceBook(command), self.tasks)
        self.settlement = Settlement(self.writer, Accounts(self.writer), prices, self.tasks)

    async def rows(self) -> list[dict[str, Any]]:
        """All rows, those under way included."""
        await self.tasks.drain(5)
        self.writer.close()
        return rows(self.path)


@asynccontextmanager
async def books(folder: Path, command: tuple[str, ...] = TABLE) -> AsyncIterator[Books]:
    it = Books(folder / "gproxy.db", command)
    try:
        yield it
    finally:
        await it.tasks.drain(0)
        it.writer.close()


def answered(model: str = "priced", usage: Usage = USED, status: int = 200) -> Journal:
    """A request that a model of the file has answered."""
    it = Journal(call(HERE, b'{"model": "m", "messages": []}'), Route("m", (Target("up", model),)))
    it.attempt(Target("up", model), "up#1")
    it.observed(usage, whole=True)
    it.ended(status, "ok")
    return it


def claim_of(journal: Journal) -> Claim:
    """One that the request has passed the door with, by no limit."""
    client = journal.call.client
    return Claim(
        request_id=journal.call.request_id,
        scopes=(client.user_scope, client.key_scope),
        bounds=(),
        budgets=(),
        tokens=0,
        cost_nano=0,
        at=journal.call.started_at,
    )


async def test_the_row_is_there_for_anyone_when_settling_returns(tmp_path: Path) -> None:
    async with books(tmp_path) as it:
        await it.settlement.settle(answered())
        (row,) = rows(it.path)
    assert (row["request_id"], row["input_tokens"], row["output_tokens"]) == ("req_1", 10, 5)
    assert row["latency_ms"] > 0, "it began when the clock did"


async def test_a_price_of_the_configuration_is_the_price(tmp_path: Path) -> None:
    async with books(tmp_path) as it:
        await it.settlement.settle(answered("priced"))
        (row,) = rows(it.path)
    assert row["cost_usd"] == pytest.approx((10 * 2.0 + 5 * 8.0) / 1e6)
    assert row["price_source"] == "config"


async def test_without_one_the_built_in_price_is_waited_for(tmp_path: Path) -> None:
    async with books(tmp_path) as it:
        await it.settlement.settle(answered("plain"))
        (row,) = rows(it.path)
    assert row["price_source"] == "table"
    assert row["cost_usd"] == pytest.approx(15 * 1.0 / 1e6)


async def test_the_cost_that_the_upstream_reported_comes_before_both(tmp_path: Path) -> None:
    async with books(tmp_path, NEVER) as it:
        await it.settlement.settle(answered("plain", Usage(input_tokens=10, output_tokens=5, cost_nano=7)))
        (row,) = rows(it.path)
    assert row["cost_usd"] == 7e-9


async def test_a_refusal_costs_nothing_and_asks_for_no_price(tmp_path: Path) -> None:
    journal = answered("plain")
    journal.usage, journal.usage_source = Usage(), "none"
    journal.ended(502, "upstream_error", "why")
    async with books(tmp_path, NEVER) as it:
        await it.settlement.settle(journal)
        (row,) = rows(it.path)
    assert (row["cost_usd"], row["price_source"], row["error"]) == (0, None, "why")


async def test_a_request_is_settled_once(tmp_path: Path) -> None:
    journal = answered()
    async with books(tmp_path) as it:
        await it.settlement.settle(journal)
        await it.settlement.settle(journal)
        it.settlement.settle_late(journal)
        assert len(await it.rows()) == 1


async def test_a_request_that_is_being_cancelled_leaves_its_row_soon(tmp_path: Path) -> None:
    journal = answered("plain")
    async with books(tmp_path) as it:
        it.settlement.settle_late(journal)
        assert journal.settled
        (row,) = await it.rows()
    assert row["price_source"] == "table"


async def test_a_request_that_is_cut_off_while_its_price_is_looked_up_still_leaves_its_row(
    tmp_path: Path,
) -> None:
    journal = answered("plain")
    async with books(tmp_path, NEVER) as it:
        settling = asyncio.create_task(it.settlement.settle(journal))
        await asyncio.sleep(0)
        settling.cancel()
        await asyncio.wait([settling])
        assert settling.cancelled()
        assert not journal.settled
        # As the pipeline does in the end: here with a price that the answer itself had.
        journal.usage = Usage(input_tokens=10, output_tokens=5, cost_nano=7)
        it.settlement.settle_late(journal)
        (row,) = await it.rows()
    assert row["input_tokens"] == 10


async def test_a_row_whose_price_never_comes_is_written_without_it_at_the_end(tmp_path: Path) -> None:
    async with books(tmp_path, NEVER) as it:
        it.settlement.settle_late(answered("plain"))
        await it.tasks.drain(0.05)
        await asyncio.sleep(0)
        (row,) = await it.rows()
    assert (row["input_tokens"], row["cost_usd"], row["price_source"]) == (10, None, None)


async def test_a_request_that_is_cut_off_while_its_row_is_committed_leaves_one(tmp_path: Path) -> None:
    journal = answered()
    async with books(tmp_path) as it:
        settling = asyncio.create_task(it.settlement.settle(journal))
        while not journal.settled:
            await asyncio.sleep(0)
        settling.cancel()
        await asyncio.wait([settling])
        it.settlement.settle_late(journal)
        assert len(await it.rows()) == 1


async def test_a_store_that_takes_no_row_is_unavailable_and_the_row_follows_when_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 20)
    async with books(tmp_path) as it:
        with closing(connect(it.path)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Unavailable):
                await it.settlement.settle(answered())
            assert it.settlement.failure
            other.execute("ROLLBACK")
        async with asyncio.timeout(10):
            while it.settlement.failure is not None:
                await asyncio.sleep(0.01)
        (row,) = await it.rows()
    assert (row["status"], row["outcome"]) == (503, "error")


async def test_once_a_store_is_known_to_fail_a_refusal_waits_for_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 20)
    monkeypatch.setattr(writer, "FAILING_PATIENCE_MS", 60_000)
    async with books(tmp_path) as it:
        with closing(connect(it.path)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Unavailable):
                await it.settlement.settle(answered())
            async with asyncio.timeout(10):
                with pytest.raises(Unavailable):
                    await it.settlement.settle(answered(status=502))
            other.execute("ROLLBACK")
        await it.rows()


async def test_a_flood_that_a_failing_store_turns_away_is_not_kept_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 20)
    monkeypatch.setattr(settlement, "MOST_WAITING", 3)
    async with books(tmp_path) as it:
        with closing(connect(it.path)) as other:
            other.execute("BEGIN IMMEDIATE")
            for number in range(8):
                journal = answered(status=503)
                journal.call = structs.replace(journal.call, request_id=f"req_{number}")
                journal.claim = claim_of(journal) if number == 7 else None
                with pytest.raises(Unavailable):
                    await it.settlement.settle(journal)
            other.execute("ROLLBACK")
        kept = [row["request_id"] for row in await it.rows()]
    assert kept == ["req_0", "req_1", "req_2", "req_7"]
    assert caplog.text.count("leave no rows") == 1


async def test_with_usage_switched_off_there_are_no_rows(tmp_path: Path) -> None:
    journal = answered()
    journal.call = call(SILENT, b'{"model": "m", "messages": []}')
    async with books(tmp_path) as it:
        await it.settlement.settle(journal)
        it.settlement.settle_late(journal)
        assert await it.rows() == []


async def test_with_usage_switched_off_a_store_that_fails_gets_no_row_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 20)
    journal = answered()
    journal.call = call(SILENT, b'{"model": "m", "messages": []}')
    journal.claim = claim_of(journal)
    async with books(tmp_path) as it:
        with closing(connect(it.path)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Unavailable):
                await it.settlement.settle(journal)
            other.execute("ROLLBACK")
        assert await it.rows() == []


BILLED = Tried("up", "up#1", "no answer in time", 9, maybe_billed=True, model="priced")


async def extra(folder: Path, *tried: Tried, command: tuple[str, ...] = TABLE) -> dict[str, Any]:
    async with books(folder, command) as it:
        journal = answered("priced")
        journal.tried += tried
        await it.settlement.settle(journal)
        (row,) = rows(it.path)
    return row


async def test_what_failed_attempts_may_have_cost_stands_beside_the_cost(tmp_path: Path) -> None:
    row = await extra(tmp_path, BILLED, BILLED, replace(BILLED, maybe_billed=False))
    given = estimate.input_tokens(answered().call.facts.body.tree)
    assert row["extra_attempt_cost_usd"] == pytest.approx(2 * given * 2.0 / 1e6)
    assert row["cost_usd"] == pytest.approx((10 * 2.0 + 5 * 8.0) / 1e6)


async def test_it_is_at_the_price_of_where_the_attempt_was_made(tmp_path: Path) -> None:
    row = await extra(tmp_path, replace(BILLED, model="plain"))
    given = estimate.input_tokens(answered().call.facts.body.tree)
    assert row["extra_attempt_cost_usd"] == pytest.approx(given * 1.0 / 1e6)


async def test_what_a_failed_attempt_reported_is_priced_and_nothing_guessed(tmp_path: Path) -> None:
    row = await extra(tmp_path, replace(BILLED, spent=USED), replace(BILLED, model="plain", spent=USED))
    assert row["extra_attempt_cost_usd"] == pytest.approx((10 * 2.0 + 5 * 8.0 + 15 * 1.0) / 1e6)


async def test_what_nothing_is_feared_of_and_what_has_no_price_is_unknown(tmp_path: Path) -> None:
    assert (await extra(tmp_path / "a", replace(BILLED, maybe_billed=False)))[
        "extra_attempt_cost_usd"
    ] is None
    unpriced = (sys.executable, "-Sc", "import sys\nfor _ in sys.stdin: print('null')")
    row = await extra(tmp_path / "b", replace(BILLED, model="plain"), command=unpriced)
    assert row["extra_attempt_cost_usd"] is None


async def test_what_may_have_been_billed_is_no_spend(tmp_path: Path) -> None:
    async with books(tmp_path) as it:
        journal = answered("priced")
        journal.claim = claim_of(journal)
        journal.tried.append(BILLED)
        await it.settlement.settle(journal)
        pair = (journal.call.client.user_scope, "total")
        found = spent(it.path, [pair], journal.call.started_at)[pair]
    assert found.spent_nano == 10 * 2000 + 5 * 8000
