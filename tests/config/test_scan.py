"""Each key is found in the line where a reader finds it, whatever TOML's liberties."""

import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gproxy.config.scan import scan

TEXT = '''\
# [not.a.table]
[global]
port = 1
"a b".'c' . d = 2   # dotted
[[x]] # header
k = """
[no]
key = 1
""""
v = [ 1, # ] not yet
  { q = "}", r.s = 2 },
  1979-05-27 07:32:00,
]
[x.sub]
z = \'\'\'
[[x]]\'\'\'
[[x]]
[[x.y]]
[[x.y]]
e = "\\\\"
f = "\\"]"
'''

LINES = {
    ("global",): 2,
    ("global", "port"): 3,
    ("global", "a b"): 4,
    ("global", "a b", "c"): 4,
    ("global", "a b", "c", "d"): 4,
    ("x",): 5,
    ("x", 0): 5,
    ("x", 0, "k"): 6,
    ("x", 0, "v"): 10,
    ("x", 0, "v", 0): 10,
    ("x", 0, "v", 1): 11,
    ("x", 0, "v", 1, "q"): 11,
    ("x", 0, "v", 1, "r"): 11,
    ("x", 0, "v", 1, "r", "s"): 11,
    ("x", 0, "v", 2): 12,
    ("x", 0, "sub"): 14,
    ("x", 0, "sub", "z"): 15,
    ("x", 1): 17,
    ("x", 1, "y"): 18,
    ("x", 1, "y", 0): 18,
    ("x", 1, "y", 1): 19,
    ("x", 1, "y", 1, "e"): 20,
    ("x", 1, "y", 1, "f"): 21,
}


def test_every_form_of_key_and_table_has_its_line() -> None:
    tomllib.loads(TEXT)
    assert scan(TEXT) == LINES


def test_windows_line_ends_change_no_line() -> None:
    assert scan(TEXT.replace("\n", "\r\n")) == LINES


def test_an_empty_file_has_no_keys() -> None:
    assert scan("") == {}
    assert scan("# only a remark") == {}


NAMES = st.sampled_from(["a", "b-c", '"d e"', "'f.g'", '"h\\"#"', "1"])
VALUES = st.recursive(
    st.sampled_from(
        [
            "1",
            "-0.5e3",
            "true",
            "2027-01-01T00:00:00Z",
            '"x # ]"',
            "'y }'",
            '"""\n[a]\nb = 1"""',
            "'''\n''c''''",
        ]
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: "[\n# r\n" + ",\n ".join(items) + " ]"),
        st.lists(st.tuples(NAMES, inner), max_size=2, unique_by=lambda pair: pair[0]).map(
            lambda pairs: "{ " + ", ".join(f"{k} = {v}" for k, v in pairs) + " }"
        ),
    ),
    max_leaves=5,
)
TABLES = st.lists(
    st.tuples(
        st.lists(NAMES, min_size=1, max_size=2, unique=True).map(".".join),
        st.lists(st.tuples(NAMES, VALUES), max_size=3, unique_by=lambda pair: pair[0]),
    ),
    max_size=4,
)


def paths(tree: Any, path: tuple[str | int, ...] = ()) -> set[tuple[str | int, ...]]:
    below = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    found = {path} if path else set()
    for name, inner in below:
        found |= paths(inner, (*path, name))
    return found


@given(TABLES)
def test_exactly_the_keys_that_tomllib_sees_have_lines(
    tables: list[tuple[str, list[tuple[str, str]]]],
) -> None:
    """And the statement in that line is about that key: its name stands there."""
    text = "".join(
        f"\n[[{header}]] # c\n" + "".join(f"{name} = {value}\n" for name, value in pairs)
        for header, pairs in tables
    )
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    lines = scan(text)
    assert lines.keys() == paths(tree)
    shown = text.split("\n")
    for path, line in lines.items():
        if isinstance(path[-1], str):
            assert path[-1].replace('"', '\\"') in shown[line - 1]
