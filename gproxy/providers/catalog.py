"""The table of channels: one row for each kind of upstream. A new provider is a new row.

Addresses, how a key is sent and what is spoken are data here; how they become a URL and headers is in
`endpoints.py`, and nothing in this room connects to anything.

Each row is as its provider documents it, looked up in November 2026: OpenAI platform.openai.com/docs/api-reference,
Anthropic docs.claude.com/en/api, Google ai.google.dev/api and cloud.google.com/vertex-ai, Azure
learn.microsoft.com/azure/ai-foundry/openai/reference, OpenRouter openrouter.ai/docs/api-reference, Groq
console.groq.com/docs/openai, DeepSeek api-docs.deepseek.com, Mistral docs.mistral.ai/api, xAI docs.x.ai/api-reference
(its Messages are deprecated and so left out), Together docs.together.ai/docs/inference/openai-compatibility,
Fireworks docs.fireworks.ai, NVIDIA docs.api.nvidia.com, and the local servers' own pages on OpenAI compatibility.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

_OPENAI = {"openai_chat": "/v1", "openai_responses": "/v1", "openai_embeddings": "/v1"}
_EVERYTHING = {**_OPENAI, "anthropic_messages": "/v1", "gemini": "/v1beta"}
EXTRAS = frozenset({"images_generations", "moderations", "audio_speech", "rerank"})
"""Operations that an upstream of OpenAI's dialects may have or lack, each by itself."""

_GEMINIS = ("gemini-3.8-flash", "gemini-2.5-flash", "gemini-2.5-pro")

_BEARER = {"": "bearer"}
_NATIVE_KEYS = {"": "bearer", "anthropic_messages": "x-api-key", "gemini": "x-goog-api-key"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """One kind of upstream.

    name          what `channel =` says in the file
    root          its address up to, but without, the prefixes in `speaks`; "" if the user must give one
    speaks        protocol name -> what stands below the root in place of that protocol's own version prefix
                  (`/v1`, Gemini's `/v1beta`); "" if nothing does
    auth          how the key is sent: "bearer", or the name of a header that holds it alone; for a protocol
                  under its name, for the others under ""
    needs_key     False: a server that may ask for none
    prices        its id in genai-prices, "" if it has none there
    own_price     what any model of its costs, in USD per million tokens of input and of output; None if that is for
                  the table to say
    extras        which of EXTRAS it carries, below the same prefix
    include_usage True: chat streams report usage if `stream_options.include_usage` asks; False: they always
                  do, or refuse the question
    top_k         False: its chat completions know no `top_k`, and may refuse it
    lists_models  False: its list of models is absent, or holds ids that cannot be called
    check_path    what proves a key by a GET, as a path of the Responses API would be written, where the list of
                  models does not; "" else
    open_list     True: its list of models is given without a key, and so proves none
    key_variable  where its key is usually found in the environment, "" for `<NAME>_API_KEY`
    other_variables  where it is looked for as well
    address_variable  where its SDK takes another address from, "" if from none that is known here
    deployments   True: the paths name a deployment, as `azure.py` says
    service_account  True: its secret is a service account, and its address as `vertex.py` says
    configurable  True: `settings.protocols` says which of `speaks` an upstream has
    models        ids of a few of its models of November 2026 that talk, to suggest where its own list is not at hand
    offline       True: it is answered here, by `demo.py`, and has no address
    """

    name: str
    root: str = ""
    speaks: Mapping[str, str]
    auth: Mapping[str, str] = field(default_factory=lambda: _BEARER)
    needs_key: bool = True
    prices: str = ""
    own_price: tuple[float, float] | None = None
    extras: frozenset[str] = frozenset()
    include_usage: bool = True
    top_k: bool = True
    lists_models: bool = True
    check_path: str = ""
    open_list: bool = False
    key_variable: str = ""
    other_variables: tuple[str, ...] = ()
    address_variable: str = ""
    deployments: bool = False
    service_account: bool = False
    configurable: bool = False
    models: tuple[str, ...] = ()
    offline: bool = False

    @property
    def tells_searches(self) -> bool:
        """Whether any answer of its says how many web searches it made: those in Gemini's dialect do not."""
        return set(self.speaks) != {"gemini"}

    @property
    def needs_address(self) -> bool:
        return not self.root and not self.offline


def _extras(*operations: str) -> frozenset[str]:
    return frozenset(operations)


_ROWS = (
    Channel(
        name="openai",
        models=("gpt-5.4-mini", "gpt-5.5", "gpt-4.1-mini"),
        top_k=False,
        root="https://api.openai.com",
        address_variable="OPENAI_BASE_URL",
        speaks=_OPENAI,
        prices="openai",
        extras=_extras("images_generations", "moderations", "audio_speech"),
    ),
    Channel(
        name="anthropic",
        models=("claude-sonnet-5-5", "claude-haiku-5-5", "claude-sonnet-4-5"),
        root="https://api.anthropic.com",
        address_variable="ANTHROPIC_BASE_URL",
        speaks={"anthropic_messages": "/v1"},
        auth={"": "x-api-key"},
        prices="anthropic",
    ),
    *(
        Channel(
            name=name,
            root="https://generativelanguage.googleapis.com",
            speaks={"gemini": "/v1beta"},
            auth={"": "x-goog-api-key"},
            models=_GEMINIS,
            prices="google",
            other_variables=others,
        )
        for name, others in (("gemini", ("GOOGLE_API_KEY",)), ("aistudio", ()))
    ),
    Channel(
        name="vertexexpress",
        models=_GEMINIS,
        root="https://aiplatform.googleapis.com",
        speaks={"gemini": "/v1/publishers/google"},
        auth={"": "x-goog-api-key"},
        prices="google",
        lists_models=False,
    ),
    Channel(
        name="vertex",
        models=_GEMINIS,
        root="https://aiplatform.googleapis.com",
        speaks={"gemini": "/v1"},
        prices="google",
        lists_models=False,
        key_variable="GOOGLE_APPLICATION_CREDENTIALS",
        service_account=True,
    ),
    # Azure's list holds the models that could be deployed, while a request names a deployment.
    Channel(
        name="azure-openai",
        top_k=False,
        speaks=dict.fromkeys(_OPENAI, "/openai/v1"),
        auth={"": "api-key"},
        prices="azure",
        extras=_extras("images_generations", "audio_speech"),
        lists_models=False,
        check_path="/v1/models",
        deployments=True,
    ),
    Channel(
        name="openrouter",
        models=("anthropic/claude-sonnet-5.5", "deepseek/deepseek-chat"),
        root="https://openrouter.ai",
        speaks=dict.fromkeys((*_OPENAI, "anthropic_messages"), "/api/v1"),
        prices="openrouter",
        extras=_extras("audio_speech", "rerank"),
        include_usage=False,
        check_path="/v1/key",
        open_list=True,
    ),
    Channel(
        name="groq",
        models=("llama-3.3-70b-versatile",),
        top_k=False,
        root="https://api.groq.com",
        speaks={"openai_chat": "/openai/v1", "openai_responses": "/openai/v1"},
        prices="groq",
        extras=_extras("audio_speech"),
    ),
    Channel(
        name="deepseek",
        models=("deepseek-v4-flash", "deepseek-v4-pro"),
        root="https://api.deepseek.com",
        speaks={"openai_chat": "", "openai_responses": "", "anthropic_messages": "/anthropic/v1"},
        auth={"": "bearer", "anthropic_messages": "x-api-key"},
        prices="deepseek",
    ),
    Channel(
        name="mistral",
        models=("mistral-medium-latest", "mistral-small-latest"),
        root="https://api.mistral.ai",
        speaks={"openai_chat": "/v1", "openai_embeddings": "/v1"},
        prices="mistral",
        extras=_extras("moderations", "audio_speech"),
        include_usage=False,
    ),
    Channel(
        name="xai",
        models=("grok-4.7", "grok-4-fast-reasoning"),
        top_k=False,
        root="https://api.x.ai",
        speaks={"openai_chat": "/v1", "openai_responses": "/v1"},
        prices="x-ai",
        extras=_extras("images_generations"),
    ),
    Channel(
        name="together",
        models=("deepseek-ai/DeepSeek-V4.1-Flash",),
        root="https://api.together.ai",
        speaks={"openai_chat": "/v1", "openai_embeddings": "/v1"},
        prices="together",
        extras=_extras("images_generations", "audio_speech", "rerank"),
    ),
    Channel(
        name="fireworks",
        root="https://api.fireworks.ai",
        speaks=dict.fromkeys((*_OPENAI, "anthropic_messages"), "/inference/v1"),
        prices="fireworks",
        extras=_extras("rerank"),
    ),
    Channel(
        name="nvidia",
        root="https://integrate.api.nvidia.com",
        speaks={"openai_chat": "/v1", "openai_embeddings": "/v1"},
        open_list=True,
    ),
    *(
        Channel(
            name=name,
            root=f"http://127.0.0.1:{port}",
            speaks={**_OPENAI, "anthropic_messages": "/v1"},
            extras=EXTRAS,
            needs_key=False,
        )
        for name, port in (("ollama", 11434), ("lmstudio", 1234), ("vllm", 8000))
    ),
    Channel(
        name="custom",
        speaks=_EVERYTHING,
        auth=_NATIVE_KEYS,
        extras=EXTRAS,
        needs_key=False,
        configurable=True,
    ),
    Channel(
        name="demo",
        speaks=_EVERYTHING,
        extras=EXTRAS,
        needs_key=False,
        own_price=(1.0, 2.0),
        lists_models=False,
        offline=True,
    ),
)

CHANNELS: Mapping[str, Channel] = MappingProxyType({row.name: row for row in _ROWS})
"""Every channel by name."""
