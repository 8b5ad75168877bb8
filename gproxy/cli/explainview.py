"""A dry run as a picture of the route: a tree from the name that was sent down to what it costs.

What was weighed, and its form in JSON, is `explain.py`'s.
"""

import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from gproxy.cli import output, prices
from gproxy.config import unpriced
from gproxy.config.printable import printable

_TITLE, _GOOD, _BAD, _SOFT = "bold", "green", "red", "dim"

_LOST = ("untranslated", "untranslatable")

_WIDEST = 10_000
"""No line is longer, and rich makes room for as many columns as it is told of."""


def show(found: dict[str, Any]) -> None:
    """Print the tree, no wider than a terminal, and with whole lines where there is none."""
    root = Tree(_text((found["model"], _TITLE), f" for {_whose(found)}"))
    if found["error"]:
        root.add(_text((f"refused with {found['status']}", _BAD), f": {found['error']}"))
    else:
        root.add(_text(("would be served", _GOOD)))
    if found["targets"]:
        _add_targets(root, found)
        _add_permissions(root, found["permissions"])
        _add_limits(root, found)
        _add_price(root, found)
    console = Console(file=sys.stdout, highlight=False, width=min(output.line_width(), _WIDEST))
    console.print(root)


def _whose(found: dict[str, Any]) -> str:
    return f"{found['user']}, key {found['key']}" if found["key"] else f"{found['user']}, by no key"


def _add_targets(root: Tree, found: dict[str, Any]) -> None:
    """Each target with the credentials by which it would be asked, numbered in the order of the attempts."""
    attempts = found["attempts"]
    drawn = any(row["weight"] is not None for row in attempts) or found["strategy"] == "weighted"
    how = "drawn by weight for each conversation, the heaviest first here" if drawn else "in order"
    kind = f"alias, {found['strategy']}" if found["alias"] else "no alias"
    branch = root.add(_text(("targets", _TITLE), f" ({kind}); attempts {how}"))
    for row in found["targets"]:
        why = (f": {row['why_not']}", _BAD) if not row["used"] else ""
        node = branch.add(_text((row["target"], _GOOD if row["used"] else _SOFT), why))
        if row["used"]:
            node.add(_text(f"speaks {', '.join(row['speaks'])}"))
            _add_translation(node, row)
        for number, attempt in enumerate(attempts, 1):
            if attempt["target"] == row["target"]:
                weight = "" if attempt["weight"] is None else f", weight {attempt['weight']}"
                style = _GOOD if attempt["health"] == "ready" else _BAD
                node.add(
                    _text(f"attempt {number}: {attempt['credential']}{weight}, ", (attempt["health"], style))
                )


def _add_translation(node: Tree, row: dict[str, Any]) -> None:
    """What a target could not be told, whatever asks for it."""
    if not row["translated_to"]:
        return
    told = node.add(_text(f"translated to {row['translated_to']}"))
    lost, refused = (", ".join(row[name]) for name in _LOST)
    if lost:
        told.add(_text(f"without {lost}"))
    if refused:
        told.add(_text(f"refused with 400 if it asks for {refused}"))
    # What is known only of a request itself, such as its hosted tools or keywords of its schemas, is not probed.
    told.add(_text("other fields of the request itself may add to this"))


def _add_permissions(root: Tree, rows: Iterable[dict[str, Any]]) -> None:
    branch = root.add(_text(("permissions", _TITLE)))
    for row in rows:
        at = f" at {row['provider']}" if row["provider"] else ""
        matches = f"allows {', '.join(row['matches'])}" if row["matches"] else "does not match"
        branch.add(
            _text(f"{row['of']}'s {row['pattern']}{at}: ", (matches, _GOOD if row["decides"] else _SOFT))
        )
    if not branch.children:
        branch.add(_text(("none: nothing is allowed", _BAD)))


def _add_limits(root: Tree, found: dict[str, Any]) -> None:
    branch = root.add(_text(("limits", _TITLE), f" on {found['charged']}"))
    for row in found["limits"]:
        whose = f"{row['of']}'s {row['pattern']}" if row["pattern"] else f"{row['of']}'s own"
        stands = f"{row['left']} of {row['limit']} left" if row["applies"] else "does not apply"
        branch.add(
            _text(f"{row['bound']}, {whose}: ", (stands, _style(row["left"]) if row["applies"] else _SOFT))
        )
    for row in found["quotas"]:
        left = f"{row['left_usd']:.6f} of {row['quota_usd']:.6f} USD left"
        held = f", {row['held_usd']:.6f} held" if row["held_usd"] else ""
        branch.add(_text(f"quota, {row['of']}'s, {row['period']}: ", (left, _style(row["left_usd"])), held))
    if not branch.children:
        branch.add(_text("none"))


def _add_price(root: Tree, found: dict[str, Any]) -> None:
    price = found["price"]
    if price is None:
        branch = root.add(_text(("price", _TITLE), f" of {found['charged']} is unknown"))
        command = unpriced.command(found["charged"])
        branch.add(_text(f"`{command}` sets one, with --add if the model is not in [[models]];"))
        branch.add(_text("so do `price_tiers` and `price_each_call` there"))
        return
    title = f" of {found['charged']}, USD per million tokens, by {price['source']}"
    branch = root.add(_text(("price", _TITLE), title))
    for row in prices.rows(price):
        branch.add(
            _text(
                ", ".join(
                    f"{name.replace('_', ' ')} {value}"
                    for name, value in row.items()
                    if value not in (None, "", "-")
                )
            )
        )
    if not branch.children:
        branch.add(_text("no token has a price"))
    for line in prices.beside_tokens(price):
        branch.add(_text(line))


def _style(left: float) -> str:
    return _GOOD if left > 0 else _BAD


def _text(*parts: str | tuple[str, str]) -> Text:
    shown = (printable(part) if isinstance(part, str) else (printable(part[0]), part[1]) for part in parts)
    return Text.assemble(*shown, overflow="fold")
