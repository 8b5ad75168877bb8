"""By which dialect a request goes to a provider that does not speak its client's: a stated preference.

What a provider speaks is its channel's row; whether it has to be asked in another dialect at all is the server's.
"""

from collections.abc import Collection
from functools import lru_cache

from gproxy.translate import traits
from gproxy.translate.registry import DIALECTS

PREFERRED = ("openai_chat", "openai_responses", "anthropic_messages", "gemini")
"""What every provider of others' models carries best comes first."""


def carrying(client: str, spoken: Collection[str], model: str) -> str:
    """The dialect, of those that are `spoken`, in which `model` is asked for a client of the dialect `client`.

    That of the model's maker first: OpenAI's models that reason do so beside tools by the Responses API alone (of the
    others chat carries more: stop sequences, a seed, penalties), and only its own dialect carries all of a Claude or
    a Gemini. "" if none of them can be translated to, or `client` not at all.
    """
    if client not in DIALECTS:
        return ""
    order = (_of_its_maker(model), *PREFERRED)
    return next((name for name in order if name in spoken and name in DIALECTS and name != client), "")


@lru_cache(maxsize=1024)
def _of_its_maker(model: str) -> str:
    if traits.is_of_openai(model) and traits.efforts_of(model):
        return "openai_responses"
    if traits.claude_version(model) is not None:
        return "anthropic_messages"
    return "gemini" if "gemini-" in model else ""
