"""What is known of models by their names: how they take reasoning, sampling and limits.

Only rules for which a provider refuses a request are here. A model that is not known is taken to have none.
"""

import re
from functools import lru_cache

from gproxy.translate.model import EFFORTS, Effort, Thinking

_CLAUDE = re.compile(r"claude(?:-[a-z]+)?(?:-(\d+)(?:[-.](\d{1,2}))?(?!\d))?")
_GPT = re.compile(r"(?:^|/)gpt-(\d+)(?:\.(\d+))?(?!\d|\w)")
_O_SERIES = re.compile(r"(?:^|/)(?:o[134](?=$|-)|codex-mini)")
_OF_OPENAI = re.compile(r"(?:^|/)(?:gpt-(?!oss)|chatgpt-|o[134](?=$|-)|codex-mini)")
_GPT_OSS = re.compile(r"gpt-oss")
_GEMINI = re.compile(r"gemini-(?:2\.5|[3-9])")
_NEEDS_REASONING = re.compile(r"deepseek|kimi|glm-|minimax|mimo|qwen")
_OF_MISTRAL = r"(?:mistral|mixtral|ministral|magistral|devstral|codestral|pixtral)"
_NINE_CHARACTER_IDS = re.compile(_OF_MISTRAL)
_AT_MISTRAL = re.compile(
    rf"(?:open-|labs-)?{_OF_MISTRAL}[a-z0-9.-]*"
)  # elsewhere they have a `/` or `:` in their names
_CEILINGS = re.compile(r"(gpt-4o|gpt-4\.1|gpt-4-turbo|gpt-3\.5|gemini-1\.5|gemini-2\.0)(?![0-9])")

_NEWEST = (99, 0)
_OLDEST = (0, 0)
_WITHOUT_DOT = 30  # `gpt-35` is 3.5
_BUDGETS: dict[Effort, int] = {
    "minimal": 1024,
    "low": 2048,
    "medium": 8192,
    "high": 16384,
    "xhigh": 32768,
    "max": 32768,
}

_OUTPUT = {
    **{"gpt-4o": 16_384, "gpt-4.1": 32_768, "gpt-4-turbo": 4096, "gpt-3.5": 4096},
    **{"gemini-1.5": 8192, "gemini-2.0": 8192},
}

Version = tuple[int, int]


@lru_cache(maxsize=1024)
def claude_version(model: str) -> Version | None:
    """(4, 5) for `claude-sonnet-4-5-20250929`; one above all for a Claude without a number; None for others."""
    found = _CLAUDE.search(model)
    if found is None:
        return None
    return (int(found[1]), int(found[2] or 0)) if found[1] else _NEWEST


def may_rest(model: str) -> bool:
    """Whether a Claude that reasons unasked can be told not to; those before reason only when they are asked to."""
    version = claude_version(model)
    return version is not None and version >= (4, 8) and "mythos" not in model and "fable" not in model


def _gpt_version(found: re.Match[str]) -> Version:
    """(5, 1) of `gpt-5.1`; of names without a dot, as Azure's, too: (3, 5) of `gpt-35`."""
    major, minor = int(found[1]), int(found[2] or 0)
    return divmod(major, 10) if major >= _WITHOUT_DOT and not minor else (major, minor)


@lru_cache(maxsize=1024)
def efforts_of(model: str) -> tuple[Effort, ...]:
    """The values of `reasoning_effort` that a model takes by OpenAI's dialects; () if it refuses the parameter.

    https://developers.openai.com/api/docs/guides/reasoning; gpt-oss and Gemini after their providers' pages.
    """
    gpt = _GPT.search(model)
    version = _gpt_version(gpt) if gpt is not None else _OLDEST
    if version >= (5, 0) and "-chat" not in model:
        if version >= (5, 2):
            return ("none", "low", "medium", "high", "xhigh")
        return (
            ("none", "low", "medium", "high") if version == (5, 1) else ("minimal", "low", "medium", "high")
        )
    if _O_SERIES.search(model) or _GPT_OSS.search(model):
        return ("low", "medium", "high")
    return ("minimal", "low", "medium", "high") if _GEMINI.search(model) else ()


def reasons_without_tools(model: str) -> bool:
    """Whether an OpenAI model refuses tools in chat completions unless its effort is "none": from GPT-5.4 on.

    https://github.com/openai/openai-openapi/issues/541. Who resells them under `openai/…` has no such rule.
    """
    gpt = _GPT.match(model)
    return gpt is not None and bool(efforts_of(model)) and _gpt_version(gpt) >= (5, 4)


def is_of_openai(model: str) -> bool:
    """Whether it is one of OpenAI's hosted models, which alone know `max_completion_tokens`."""
    return _OF_OPENAI.search(model) is not None


def takes_text_tools(model: str) -> bool:
    """Whether it is one of OpenAI's that know tools of the type `custom`: from GPT-5 on, which brought them.

    https://developers.openai.com/api/docs/guides/function-calling#custom-tools
    """
    gpt = _GPT.search(model)
    return is_of_openai(model) and gpt is not None and _gpt_version(gpt) >= (5, 0)


def refuses_sampling(model: str, effort: Effort | None) -> bool:
    """Whether an OpenAI model takes no temperature, top_p and penalties: those that reason, while they do."""
    return is_of_openai(model) and bool(efforts_of(model)) and effort != "none"


def wants_reasoning_back(model: str) -> bool:
    """Whether a model that called a tool refuses to go on without what it thought before (DeepSeek, Kimi, …)."""
    return _NEEDS_REASONING.search(model.lower()) is not None


def has_short_ids(model: str) -> bool:
    """Whether ids of tool calls must have nine letters and digits (Mistral's)."""
    return _NINE_CHARACTER_IDS.search(model.lower()) is not None


def is_at_mistral(model: str) -> bool:
    """Whether it is named as at Mistral, who refuses every field that it does not know (422 `extra_forbidden`).

    https://docs.mistral.ai/api/endpoint/chat: no `user`, no `top_k`, and the seed is `random_seed`.
    """
    return _AT_MISTRAL.fullmatch(model.lower()) is not None


def refuses_stop(model: str) -> bool:
    """Whether an OpenAI model takes no `stop` in chat completions: those that reason, whatever their effort.

    https://github.com/huggingface/smolagents/issues/1671
    """
    return is_of_openai(model) and bool(efforts_of(model))


def ceiling(model: str) -> int | None:
    """The most output tokens of a model, as far as it is safe to ask for them; None where nothing is known.

    Only models are here that clients of others ask too much of: they refuse the request.
    """
    version = claude_version(model)
    if version is None:
        found = _CEILINGS.search(model)
        return _OUTPUT[found[1]] if found is not None else None
    if version >= (4, 6) and "opus" in model:
        return 128_000
    if version >= (4, 5) or version == (3, 7) or (version[0] == 4 and "opus" not in model):
        return 64_000
    if version[0] == 4:
        return 32_000
    return 8192 if version == (3, 5) else 4096


def nearest(effort: Effort, allowed: tuple[Effort, ...]) -> Effort:
    """The allowed effort that is next to `effort`, the smaller one of two."""
    at = EFFORTS.index(effort)
    return min(allowed, key=lambda known: (abs(EFFORTS.index(known) - at), EFFORTS.index(known)))


def effort_of(thinking: Thinking) -> Effort | None:
    """The effort asked for, out of the budget if only that was said; None if neither was."""
    if thinking.effort is not None or thinking.budget is None:
        return thinking.effort
    if thinking.budget <= 0:
        return "none"
    return next((e for e in ("low", "medium") if thinking.budget <= _BUDGETS[e]), "high")


def budget_of(thinking: Thinking, most: int) -> int:
    """Tokens to reason with, at most `most`: as was said, else after the effort."""
    if thinking.budget is not None:
        return min(thinking.budget, most)
    return min(_BUDGETS.get(thinking.effort or "medium", 0), most)
