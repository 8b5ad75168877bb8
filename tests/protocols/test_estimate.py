"""Text counts, about four bytes to a token; names, base64 and addresses do not."""

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
