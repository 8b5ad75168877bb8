"""Text counts, about four bytes to a token; names, base64 and addresses do not."""

import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gproxy.protocols.estimate import input_tokens, output_tokens


def test_text_is_counted_at_any_depth() -> None:
    assert input_tokens({"messages": [{"content": [{"text": "x" * 400}]}], "system": "y" * 40}) == 110


def test_base64_and_addresses_are_not_counted() -> None:
    tree = {
        "contents": [{"inlineData": {"data": "A" * 9000}}],
        "input": [
            {"image_url": "https://x/" + "a" * 900},
            {"image_url": {"url": "data:image/png;base64,AAAA"}},
        ],
    }
    assert input_tokens(tree) == 0


def test_a_token_id_is_a_token() -> None:
    assert input_tokens({"input": [[1, 2, 3], [4, True]]}) == 4


def test_bytes_are_counted_and_not_characters() -> None:
    assert input_tokens({"prompt": "ä" * 8}) == 4


def test_part_of_a_token_is_one() -> None:
    assert [output_tokens(size) for size in (0, 1, 4, 5)] == [0, 1, 1, 2]


def test_text_is_text_under_any_name() -> None:
    """Else a client could choose what is held of its quota."""
    words = "some words " * 100
    plain = input_tokens({"messages": [{"content": words}]})
    assert input_tokens({"source": {"type": "text", "data": words}}) >= plain
    assert input_tokens({"content": f"data:{words}"}) >= plain
    assert input_tokens({"content": f"data:text/plain;base64,{words}"}) >= plain
    assert input_tokens({"input": {words: 1}}) >= plain


BASE64 = st.sampled_from(["", "QUJD", "QUJD" * 20, "QUI=", "Q-_D==", "Q=D", "a b"])
TEXTS = st.one_of(
    st.text(max_size=20),
    BASE64,
    BASE64.map("data:image/png;base64,{}".format),
    st.sampled_from(
        ["http", "data", "data:", "http://", "https://a/b", "http://a b", "ftp://a", "HTTP://a/b"]
    ),
)
NAMES = st.sampled_from(
    ["data", "signature", "text", "content", "a name of many letters", "ein größerer Name"]
)
TREES = st.dictionaries(
    NAMES,
    st.recursive(
        TEXTS | st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
        max_leaves=20,
    ),
)


def elsewhere(name: str, text: str) -> bool:
    """The plain reference: whether a text stands for what is somewhere else, or encoded."""
    if re.fullmatch(r"https?://\S{1,2048}", text):
        return True
    of_data = re.match(r"data:[^,;]*(;[^,;]*)*;base64,", text)
    if of_data is None and name not in ("data", "signature"):
        return False
    return re.fullmatch(r"[A-Za-z0-9+/_-]*={0,2}", text[of_data.end() if of_data else 0 :]) is not None


def leaves(tree: Any, name: str = "") -> list[str]:
    """The plain reference: all that is text, and four bytes for each token id."""
    if isinstance(tree, dict):
        names = [name for name in tree if len(name) > 16]
        return names + [leaf for name, value in tree.items() for leaf in leaves(value, name)]
    if isinstance(tree, list):
        ids = ["1234" for value in tree if type(value) is int]
        return ids + [
            leaf for value in tree for leaf in ([value] if isinstance(value, str) else leaves(value))
        ]
    return [tree] if isinstance(tree, str) and not elsewhere(name, tree) else []


@given(TREES)
def test_all_of_a_tree_is_counted_once(tree: dict[str, Any]) -> None:
    assert input_tokens(tree) == -(-len("".join(leaves(tree)).encode()) // 4)
