"""Text that comes from anywhere, as a terminal, a log or a table shows it: nothing in it is obeyed, or hides.

What is taken out of it, since it is a secret, is `scrub.py`'s and `strays.py`'s.
"""

import json


def printable(text: str, *, lines: bool = False) -> str:
    """The text with what a terminal would obey, or show as nothing, written out: controls, the ends of lines that
    Unicode knows, and what turns the direction of writing. `lines`: line feeds and tabs stay, CRLF is one."""
    if lines:
        text = text.replace("\r\n", "\n")
    if text.isprintable():
        return text
    kept = "\n\t" if lines else ""
    return "".join(
        c if c.isprintable() or c in kept else c.encode("unicode_escape", "surrogatepass").decode()
        for c in text
    )


def json_text(value: object, indent: int | None = None) -> str:
    """A value as JSON with the same written out as JSON has it, so that it is the same value to who reads it. What
    JSON has no form for is its text."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, default=str)
    if text.isprintable():
        return text
    # A line feed is the indentation's: in a string it is escaped by now.
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)
