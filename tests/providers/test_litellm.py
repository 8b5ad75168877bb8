from typing import Any

import pytest

from gproxy.providers.litellm import Imported, convert


def entry(name: str, model: str, **params: Any) -> dict[str, Any]:
    return {"model_name": name, "litellm_params": {"model": model, **params}}


def imported(*entries: dict[str, Any], environ: dict[str, str] | None = None, **sections: Any) -> Imported:
    return convert({"model_list": list(entries), **sections}, environ or {})


@pytest.mark.parametrize(
    ("model", "channel", "upstream"),
    [
        ("openai/gpt-4o", "openai", "gpt-4o"),
        ("gpt-4o", "openai", "gpt-4o"),
        ("claude-haiku-4-5", "anthropic", "claude-haiku-4-5"),
        ("gemini/gemini-2.5-pro", "gemini", "gemini-2.5-pro"),
        ("openrouter/meta/llama-3", "openrouter", "meta/llama-3"),
        ("together_ai/Qwen/Qwen3", "together", "Qwen/Qwen3"),
        ("ollama_chat/llama3", "ollama", "llama3"),
    ],
)
def test_the_word_in_front_of_a_model_is_its_channel(model: str, channel: str, upstream: str) -> None:
    found = imported(entry("m", model))
    assert found.providers[0]["channel"] == channel
    assert found.aliases[0]["model_id"] == upstream
    assert found.lost == []


def test_keys_are_named_where_they_were_and_one_provider_has_one() -> None:
    found = imported(
        entry("a", "openai/gpt-4o", api_key="os.environ/MY_KEY"),
        entry("b", "openai/o3", api_key="os.environ/MY_KEY"),
        entry("c", "openai/o3", api_key="sk-literal"),
        entry("d", "together_ai/x"),
        entry("e", "ollama/y"),
    )
    assert [(row["name"], row.get("credentials")) for row in found.providers] == [
        ("openai-main", [{"env": "MY_KEY"}]),
        ("openai-main-2", [{"api_key": "sk-literal"}]),
        ("together-main", [{"env": "TOGETHERAI_API_KEY"}]),
        ("ollama", None),
    ]
    assert [row["provider_name"] for row in found.aliases] == [
        "openai-main",
        "openai-main",
        "openai-main-2",
        "together-main",
        "ollama",
    ]


def test_an_openai_model_at_another_address_is_a_custom_one() -> None:
    found = imported(entry("m", "openai/x", api_base="http://h/v1"))
    assert found.providers[0]["channel"] == "custom"
    assert found.providers[0]["settings"] == {
        "base_url": "http://h/v1",
        "protocols": ["openai_chat", "openai_embeddings"],
    }


def test_an_address_in_a_variable_is_looked_up() -> None:
    azure = entry("m", "azure/dep", api_base="os.environ/BASE", api_version="2024-10-21")
    found = imported(azure, environ={"BASE": "https://a.openai.azure.com"})
    assert found.providers[0]["settings"]["base_url"] == "https://a.openai.azure.com?api-version=2024-10-21"
    assert imported(azure).lost == ["model_list m: its api_base is not known here (BASE is not set)"]


def test_deployments_of_one_name_share_the_load_by_weight() -> None:
    found = imported(
        entry("m", "openai/a", weight=9),
        entry("m", "anthropic/b", weight=3),
        entry("m", "openai/a", weight=9),
    )
    assert found.aliases == [
        {
            "alias": "m",
            "provider_name": "anthropic-main",
            "model_id": "b",
            "strategy": "weighted",
            "targets": [{"provider_name": "openai-main", "model_id": "a", "weight": 3}],
        }
    ]


@pytest.mark.parametrize("section", ["litellm_settings", "router_settings"])
def test_fallbacks_are_tried_in_order(section: str) -> None:
    found = imported(
        entry("m", "openai/a"),
        entry("n", "anthropic/b"),
        **{section: {"fallbacks": [{"m": ["n", "gone"]}, {"ghost": ["m"]}]}},
    )
    assert found.aliases[0]["strategy"] == "failover"
    assert found.aliases[0]["targets"] == [{"provider_name": "anthropic-main", "model_id": "b"}]
    assert found.lost == ["fallbacks ghost: there is no such model", "fallbacks m: there is no gone here"]


def test_group_aliases_and_the_master_key_go_along() -> None:
    found = imported(
        entry("m", "openai/a"),
        router_settings={
            "model_group_alias": {"gpt-4": "m", "x": {"model": "m", "hidden": True}, "y": "none"}
        },
        general_settings={"master_key": "os.environ/MASTER"},
        environ={"MASTER": "sk-1234"},
    )
    assert [row["alias"] for row in found.aliases] == ["m", "gpt-4", "x"]
    assert found.master_key == "sk-1234"
    assert "sk-1234" not in repr(found)
    assert found.lost == ["model_group_alias y: there is no none here, or a model of that name"]


def test_prices_are_carried_by_the_million() -> None:
    priced = entry("m", "openai/a") | {
        "model_info": {"input_cost_per_token": 4e-7, "output_cost_per_token": 1.6e-6}
    }
    assert imported(priced).models == [
        {
            "provider_name": "openai-main",
            "model_id": "a",
            "price_tiers": [{"price_input_tokens": 0.4, "price_output_tokens": 1.6}],
        }
    ]


def test_a_pattern_leaves_its_provider_open() -> None:
    found = imported(entry("anthropic/*", "anthropic/*"), entry("m", "anthropic/b"))
    assert found.models == []
    assert [row["alias"] for row in found.aliases] == ["m"]
    assert "call anthropic-main/MODEL" in found.lost[0]


def test_what_cannot_be_carried_is_listed() -> None:
    found = imported(
        entry("m", "openai/a", rpm=6, timeout=3),
        entry("v", "vertex_ai/x"),
        {"model_name": "n"},
        litellm_settings={"drop_params": True, "set_verbose": True},
        general_settings={"database_url": "x", "master_key": "os.environ/NOT_SET"},
        environment_variables={"A": "b"},
    )
    assert sorted(found.lost) == [
        "environment_variables",
        "general_settings: database_url",
        "general_settings: master_key (NOT_SET is not set here)",
        "litellm_settings: drop_params, set_verbose",
        "model_list m: rpm, timeout",
        "model_list v: vertex_ai/x is of a provider that there is no channel for",
        "model_list, entry 3: no model_name, or no litellm_params.model",
    ]


@pytest.mark.parametrize(
    "tree", [{}, {"model_list": None}, {"model_list": {}}, {"model_list": [1, None, "x"]}]
)
def test_what_is_no_list_of_models_has_none(tree: dict[str, Any]) -> None:
    assert convert(tree, {}).providers == []
