"""A LiteLLM proxy's configuration in our tables: providers, models, aliases, and what could not be carried.

Which keys there are is as docs.litellm.ai/docs/proxy/configs and /docs/providers have it, looked up in November 2026.
Reading YAML and writing the file are the command's.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gproxy.providers.catalog import CHANNELS

_CHANNELS = {
    "openai": "openai",
    "text-completion-openai": "openai",
    "azure": "azure-openai",
    "anthropic": "anthropic",
    "gemini": "gemini",
    "openrouter": "openrouter",
    "groq": "groq",
    "deepseek": "deepseek",
    "mistral": "mistral",
    "xai": "xai",
    "together_ai": "together",
    "fireworks_ai": "fireworks",
    "nvidia_nim": "nvidia",
    "ollama": "ollama",
    "ollama_chat": "ollama",
    "lm_studio": "lmstudio",
    "hosted_vllm": "vllm",
    "openai_like": "custom",
    "custom_openai": "custom",
}
"""Its word for a provider, in front of a model or in `custom_llm_provider`, and the channel."""

_VARIABLES = {
    "azure-openai": "AZURE_API_KEY",
    "together": "TOGETHERAI_API_KEY",
    "fireworks": "FIREWORKS_AI_API_KEY",
    "nvidia": "NVIDIA_NIM_API_KEY",
}
"""Where it looks for a key that is not given, where that is not `<CHANNEL>_API_KEY`."""

_BARE = {
    "gpt-": "openai",
    "o1": "openai",
    "o3": "openai",
    "o4": "openai",
    "text-embedding-": "openai",
    "claude-": "anthropic",
}
"""By what a model without a provider begins, and the channel that it then is of."""

_VARIABLE = "os.environ/"
_CARRIED = frozenset(
    {"model", "api_key", "api_base", "base_url", "custom_llm_provider", "weight", "api_version"}
)
_PRICES = {
    "input_cost_per_token": "price_input_tokens",
    "output_cost_per_token": "price_output_tokens",
    "cache_read_input_token_cost": "price_cache_read_input_tokens",
    "cache_creation_input_token_cost": "price_cache_creation_input_tokens",
}
_MILLION = 1_000_000

Table = dict[str, Any]


@dataclass(slots=True)
class Imported:
    """Tables of our file, by their keys there, and in words what could not be carried over.

    `master_key` is the key that its clients call with, "" if that is not known here.
    """

    providers: list[Table] = field(default_factory=list)
    models: list[Table] = field(default_factory=list)
    aliases: list[Table] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    master_key: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class _Deployment:
    """One entry of `model_list`: the place it leads to, and its share."""

    provider: str
    model: str
    share: int

    @property
    def target(self) -> Table:
        return {"provider_name": self.provider, "model_id": self.model}


def convert(tree: Mapping[str, Any], environ: Mapping[str, str]) -> Imported:
    """What `tree`, the file as plain values, says; `environ` for addresses and the master key that it names there."""
    found = Imported()
    groups: dict[str, list[_Deployment]] = {}
    open_providers: set[str] = set()
    for entry in _entries(tree, found):
        name = str(entry["model_name"])
        deployment = _deployment(entry, found, environ)
        if deployment is None:
            continue
        if "*" in deployment.model or "*" in name:
            open_providers.add(deployment.provider)
            found.lost.append(
                f"model_list {name}: a pattern is no alias; call {deployment.provider}/MODEL, any is passed on"
            )
            continue
        groups.setdefault(name, []).append(deployment)
        _add_model(found, deployment, entry.get("model_info") or {})
    found.models = [row for row in found.models if row["provider_name"] not in open_providers]
    _add_aliases(found, groups, tree)
    _add_settings(found, tree, environ)
    return found


def _entries(tree: Mapping[str, Any], found: Imported) -> Iterator[Mapping[str, Any]]:
    rows = tree.get("model_list") or []
    for number, row in enumerate(rows if isinstance(rows, list) else [], 1):
        good = isinstance(row, dict) and row.get("model_name") and isinstance(row.get("litellm_params"), dict)
        if good and isinstance(row["litellm_params"].get("model"), str):
            yield row
        else:
            found.lost.append(f"model_list, entry {number}: no model_name, or no litellm_params.model")


def _deployment(entry: Mapping[str, Any], found: Imported, environ: Mapping[str, str]) -> _Deployment | None:
    params, name = entry["litellm_params"], entry["model_name"]
    channel, model = _channel(params)
    if channel is None:
        found.lost.append(
            f"model_list {name}: {params['model']} is of a provider that there is no channel for"
        )
        return None
    base, lost = _value(params.get("api_base") or params.get("base_url") or "", environ)
    if lost or (CHANNELS[channel].needs_address and not base):
        found.lost.append(
            f"model_list {name}: its api_base is not known here{f' ({lost} is not set)' if lost else ''}"
        )
        return None
    if channel == "openai" and base and "api.openai.com" not in base:
        channel = "custom"
    if others := sorted(set(params) - _CARRIED):
        found.lost.append(f"model_list {name}: {', '.join(others)}")
    weight = params.get("weight")
    provider = _provider(found, channel, base, params)
    return _Deployment(provider, model, weight if isinstance(weight, int) and weight > 0 else 1)


def _channel(params: Mapping[str, Any]) -> tuple[str | None, str]:
    """The channel of a deployment, None if there is none, and the upstream's name of its model."""
    model = str(params["model"])
    word = params.get("custom_llm_provider")
    if isinstance(word, str):
        return _CHANNELS.get(word), model.removeprefix(f"{word}/")
    word, slash, rest = model.partition("/")
    if slash and word in _CHANNELS:
        return _CHANNELS[word], rest
    return next(
        (channel for start, channel in _BARE.items() if not slash and model.startswith(start)), None
    ), model


def _provider(found: Imported, channel: str, base: str, params: Mapping[str, Any]) -> str:
    """The name of the provider of that channel, address and key, which is added if it is not there."""
    settings: Table = {"base_url": base} if base and base.rstrip("/") != CHANNELS[channel].root else {}
    if channel == "custom":
        settings["protocols"] = ["openai_chat", "openai_embeddings"]
    if version := params.get("api_version"):
        settings["base_url"] = f"{base}?api-version={version}"
    row: Table = {"channel": channel}
    if settings:
        row["settings"] = settings
    if credential := _credential(channel, params.get("api_key")):
        row["credentials"] = [credential]
    for known in found.providers:
        if {key: value for key, value in known.items() if key != "name"} == row:
            return str(known["name"])
    usual = f"{channel}-main" if CHANNELS[channel].needs_key else channel
    taken = {known["name"] for known in found.providers}
    name = next(
        free for n in range(1, len(taken) + 2) if (free := usual if n == 1 else f"{usual}-{n}") not in taken
    )
    found.providers.append({"name": name} | row)
    return name


def _credential(channel: str, key: object) -> Table | None:
    if isinstance(key, str) and key:
        return {"env": key.removeprefix(_VARIABLE)} if key.startswith(_VARIABLE) else {"api_key": key}
    if not CHANNELS[channel].needs_key:
        return None
    return {"env": _VARIABLES.get(channel) or f"{channel.upper()}_API_KEY"}


def _add_model(found: Imported, deployment: _Deployment, info: Mapping[str, Any]) -> None:
    if any(
        row["provider_name"] == deployment.provider and row["model_id"] == deployment.model
        for row in found.models
    ):
        return
    row = deployment.target
    prices = {
        ours: info[theirs] for theirs, ours in _PRICES.items() if isinstance(info.get(theirs), int | float)
    }
    if "price_input_tokens" in prices and "price_output_tokens" in prices:
        row["price_tiers"] = [{ours: round(cost * _MILLION, 9) for ours, cost in prices.items()}]
    found.models.append(row)


def _add_aliases(found: Imported, groups: Mapping[str, list[_Deployment]], tree: Mapping[str, Any]) -> None:
    fallbacks = _fallbacks(tree, found)
    for name, own in groups.items():
        later = [deployment for other in fallbacks.get(name, ()) for deployment in groups.get(other, ())]
        found.lost += [
            f"fallbacks {name}: there is no {other} here"
            for other in fallbacks.get(name, ())
            if other not in groups
        ]
        shared = len(own) > 1 and not later
        if len(own) > 1 and later:
            found.lost.append(
                f"model_list {name}: its load is not shared, since it has fallbacks: tried in order"
            )
        found.aliases.append(_alias(name, [*own, *later], shared=shared))
    router = tree.get("router_settings") or {}
    for name, of in (router.get("model_group_alias") or {}).items():
        group = of.get("model") if isinstance(of, dict) else of
        known = next((row for row in found.aliases if row["alias"] == group), None)
        if known is None or name in groups:
            found.lost.append(f"model_group_alias {name}: there is no {group} here, or a model of that name")
        else:
            found.aliases.append(known | {"alias": name})


def _alias(name: str, deployments: Iterable[_Deployment], *, shared: bool) -> Table:
    distinct = list(dict.fromkeys(deployments))
    if shared:  # the first of an alias weighs 1
        distinct.sort(key=lambda each: each.share)
    first, more = distinct[0], distinct[1:]
    row: Table = {"alias": name} | first.target
    if more:
        row["strategy"] = "weighted" if shared else "failover"
        shares = [{"weight": round(each.share / first.share)} if shared else {} for each in more]
        row["targets"] = [each.target | share for each, share in zip(more, shares, strict=True)]
    return row


def _fallbacks(tree: Mapping[str, Any], found: Imported) -> dict[str, list[str]]:
    """What is tried after a model, of both places where it may stand."""
    known: dict[str, list[str]] = {}
    for section in ("litellm_settings", "router_settings"):
        for row in (tree.get(section) or {}).get("fallbacks") or ():
            for name, others in row.items() if isinstance(row, dict) else ():
                known.setdefault(str(name), []).extend(
                    map(str, others if isinstance(others, list) else [others])
                )
    found.lost += [
        f"fallbacks {name}: there is no such model"
        for name in known
        if name
        not in {str(row.get("model_name")) for row in tree.get("model_list") or () if isinstance(row, dict)}
    ]
    return known


def _add_settings(found: Imported, tree: Mapping[str, Any], environ: Mapping[str, str]) -> None:
    carried = {"fallbacks", "model_group_alias", "master_key"}
    for section, values in tree.items():
        if section == "model_list":
            continue
        if not isinstance(values, dict) or section not in (
            "litellm_settings",
            "router_settings",
            "general_settings",
        ):
            found.lost.append(section)
        elif others := sorted(set(map(str, values)) - carried):
            found.lost.append(f"{section}: {', '.join(others)}")
    master = (tree.get("general_settings") or {}).get("master_key")
    if isinstance(master, str) and master:
        found.master_key, lost = _value(master, environ)
        if lost:
            found.lost.append(f"general_settings: master_key ({lost} is not set here)")


def _value(text: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """A value, and the variable that it should have come from if that is not set."""
    if not text.startswith(_VARIABLE):
        return text, ""
    name = text.removeprefix(_VARIABLE)
    return environ.get(name, ""), "" if environ.get(name) else name
