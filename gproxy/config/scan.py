"""On which line each key and table of a TOML text stands: what tomllib does not tell.

Where they stand to the character is `spans.py`'s.
"""

import re
from bisect import bisect_left
from collections.abc import Mapping

from gproxy.config.problems import KeyPath
from gproxy.config.spans import Spans


def scan(text: str) -> Mapping[KeyPath, int]:
    """The line, from 1, of each key, table header and array element of a valid TOML text.

    A table that only longer headers or dotted keys imply has the line of the first of them.
    """
    spans = Spans(text)
    starts = {section.path: section.start for section in reversed(spans.sections)}
    for path, value in spans.values.items():
        starts[path] = value.start if value.key is None else value.key
    breaks = [found.start() for found in re.finditer("\n", text)]
    lines: dict[KeyPath, int] = {}
    for path, start in sorted(starts.items(), key=lambda item: item[1]):
        line = bisect_left(breaks, start) + 1
        while path and path not in lines:
            lines[path] = line
            path = path[:-1]
    return lines
