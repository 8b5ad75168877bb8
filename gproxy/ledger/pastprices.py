"""Built-in prices as they were at any time. Imports genai-prices, which is heavy: for commands, not for a server.

What the table says is `pricelookup.py`'s, the prices of now `pricebook.py`'s.
"""

import math
from dataclasses import dataclass
from datetime import UTC, datetime

from gproxy.ledger.pricebook import price_of
from gproxy.ledger.pricelookup import look_up
from gproxy.ledger.pricing import Price


@dataclass(frozen=True, slots=True)
class _Span:
    """A price that is known to hold from `since` on, and before `until`, in seconds since the epoch."""

    since: float
    until: float
    price: Price | None


class PastPrices:
    """Asks the table once for each model and for each time in which its price stays."""

    def __init__(self) -> None:
        self._spans: dict[tuple[str, str], list[_Span]] = {}

    def at(self, prices_id: str, model: str, moment: float) -> Price | None:
        """The price that was in force at `moment`, in seconds since the epoch; None if it is unknown."""
        spans = self._spans.setdefault((prices_id, model), [])
        # Who asks goes forward in time, so that it is mostly the last.
        found = next((span for span in reversed(spans) if span.since <= moment < span.until), None)
        if found is None:
            answer = look_up(prices_id, model, datetime.fromtimestamp(moment, UTC)) if prices_id else None
            until = answer["until"] if answer else None
            price = price_of(answer) if answer else None
            found = _Span(moment, math.inf if until is None else until, price)
            spans.append(found)
        return found.price
