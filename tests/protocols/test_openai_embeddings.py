"""What the recorded case does not show of embeddings."""

from gproxy.protocols.openai_embeddings import EMBEDDINGS
from gproxy.protocols.strict import decode


def test_only_the_model_changes_on_the_way_to_its_path() -> None:
    facts = EMBEDDINGS.read(decode(b'{"input":["a"],"model":"m"}'), None, "")
    assert EMBEDDINGS.with_model(facts, "n", True) == b'{"input":["a"],"model":"n"}'
    assert EMBEDDINGS.upstream_path("n", "x=1") == "/v1/embeddings"
