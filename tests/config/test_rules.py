"""What must hold between rows: names once, references that lead somewhere, forms that exclude each other."""

from types import SimpleNamespace

import pytest

from gproxy.config import rules, schema
from gproxy.config.keys import hash_key
from gproxy.config.load import load
from gproxy.providers import catalog

CHANNELS = {
    name: catalog.CHANNELS[name]
    for name in ("openai", "anthropic", "gemini", "vertexexpress", "groq", "custom")
}

BASE = """\
[[providers]]
name = "p"
channel = "openai"
[[users]]
name = "u"
"""

PROVIDER = '[[providers]]\nname = "o"\nchannel = "openai"\n'

ALIAS = '[[model_aliases]]\nalias = "a"\nprovider_name = "p"\nmodel_id = "m"\n'

KEY = 'api_key_hash = "sha256:' + "0" * 64 + '"\n'


def found(text: str, severity: str) -> list[str]:
    _, problems = load((BASE + text).encode(), channels=CHANNELS)
    return [f"{p.path}: {p.message}" for p in problems if p.severity == severity]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('[[providers]]\nname = "p"\nchannel = "openai"', "providers[1].name: this provider is given twice"),
        ('[[users]]\nname = "u"', "users[1].name: this user is given twice"),
        (
            '[[models]]\nprovider_name = "p"\nmodel_id = "m"\n' * 2,
            "models[1].model_id: this model is given twice",
        ),
        (
            '[[model_aliases]]\nalias = "a"\nprovider_name = "p"\nmodel_id = "m"\n' * 2,
            "model_aliases[1].alias: this alias is given twice",
        ),
        (
            '[[permissions]]\nuser_name = "u"\nmodel_pattern = "*"\n' * 2,
            "permissions[1]: this permission is given twice",
        ),
        (
            f'[[users.keys]]\nlabel = "l"\n{KEY}[[users.keys]]\nlabel = "l"\napi_key = "k"\n',
            "users[0].keys[1].label: this label is given twice",
        ),
        (
            f'[[users.keys]]\napi_key = "sk-1"\n[[users]]\nname = "v"\n'
            f'[[users.keys]]\napi_key_hash = "{hash_key("sk-1")}"',
            "users[1].keys[0].api_key_hash: this key is given twice",
        ),
        (
            '[[models]]\nprovider_name = "q"\nmodel_id = "m"',
            'models[0].provider_name: there is no provider "q"',
        ),
        (
            '[[model_aliases]]\nalias = "a"\nprovider_name = "p"\nmodel_id = "m"\n'
            'targets = [{ provider_name = "q", model_id = "m" }]',
            'model_aliases[0].targets[0].provider_name: there is no provider "q"',
        ),
        (
            '[[permissions]]\nuser_name = "w"\nmodel_pattern = "*"',
            'permissions[0].user_name: there is no user "w"',
        ),
        (
            '[[permissions]]\nuser_name = "u"\nprovider_name = "q"\nmodel_pattern = "*"',
            'permissions[0].provider_name: there is no provider "q"',
        ),
        (f'[[users.keys]]\n{KEY}api_key = "k"', "users[0].keys[0]: only one of api_key_hash, api_key"),
        ("[[users.keys]]", "users[0].keys[0]: needs one of api_key_hash, api_key"),
        ('[[users.keys]]\napi_key = "a b"', "users[0].keys[0].api_key: must be ASCII without blanks"),
        (f'[[users.keys]]\n{KEY}models = [""]', "users[0].keys[0].models[0]: must not be empty"),
        (f"[[users.keys]]\n{KEY}quota = 0", "users[0].keys[0].quota: must be above 0"),
        (f"[[users.keys]]\n{KEY}quota = 1e-10", "users[0].keys[0].quota: must be above 0"),
        (f"[[users.keys]]\n{KEY}quota = inf", "users[0].keys[0].quota: must be a finite number"),
        (f"[[users.keys]]\n{KEY}rpm = 0", "users[0].keys[0].rpm: must be at least 1"),
        (f"[[users.keys]]\n{KEY}max_concurrency = 1.5", "users[0].keys[0].max_concurrency: must be a whole"),
        (
            '[global]\ncors_origins = ["https://a.example/", "*"]',
            "global.cors_origins: holds what no browser sends as an origin",
        ),
        (
            '[global]\ncors_origins = ["null"]',
            "global.cors_origins: holds what no browser sends as an origin",
        ),
        ('[global]\nhost = ""', "global.host: must be an address or a host name"),
        ('[global]\ndata_dir = ""', "global.data_dir: must not be empty"),
        ('[global]\nproxy = "socks5://x:1"', "global.proxy: must be an http:// or https:// address"),
        ('[global]\ntls_key = "k.pem"', "global.tls_key: needs `tls_certificate` too"),
        ('[global]\ntls_certificate = "c.pem"', "global.tls_certificate: needs `tls_key` too"),
    ],
)
def test_an_error_is_found_at_its_place(text: str, error: str) -> None:
    assert [message for message in found(text, "error") if message.startswith(error)]


@pytest.mark.parametrize("name", ["v1", "admin", "health", "metrics"])
def test_a_provider_cannot_take_a_path_of_ours(name: str) -> None:
    assert found(f'[[providers]]\nname = "{name}"\nchannel = "openai"', "error")


@pytest.mark.parametrize(
    "settings",
    [
        'base_url = "ftp://x"',
        'base_url = "api.example.com"',
        'base_url = "https://"',
        'base_url = "https://x:99999"',
        'base_url = "https://x/#a"',
        'base_url = "https://x/?a=1#a"',
        'proxy = "http://x:1/?a=1"',
        'base_url = "https://user:key@x"',
        'base_url = "https://x y"',
        'proxy = "socks5://x:1"',
        'headers = { "a b" = "c" }',
        'headers = { "Content-Length" = "1" }',
        'headers = { a = "é" }',
    ],
)
def test_settings_that_could_not_work_are_refused(settings: str) -> None:
    text = f'[[providers]]\nname = "q"\nchannel = "custom"\nsettings = {{ {settings} }}'
    assert found(text, "error")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000",
        "https://x.example/v1/",
        "http://[::1]:1/base",
        "https://x.example/openai/v1?api-version=preview",
    ],
)
def test_addresses_in_every_usual_form_pass(url: str) -> None:
    text = f'[[providers]]\nname = "q"\nchannel = "custom"\nsettings = {{ base_url = "{url}" }}'
    assert found(text, "error") == []


@pytest.mark.parametrize(
    ("credentials", "error"),
    [
        ('[{ env = "A", api_key = "k" }]', "credentials[0]: only one of env, api_key can be given"),
        ('[{ label = "x" }]', "credentials[0]: needs one of env, keyring, api_key"),
        (
            '[{ env = "A", label = "x" }, { env = "B", label = "x" }]',
            "credentials[1]: this credential's name",
        ),
        ('[{ env = "A", label = "q#2" }, { env = "B" }]', "credentials[1]: this credential's name"),
    ],
)
def test_credentials_have_one_form_and_one_name(credentials: str, error: str) -> None:
    text = f'[[providers]]\nname = "q"\nchannel = "openai"\ncredentials = {credentials}'
    assert any(f"providers[1].{error}" in message for message in found(text, "error"))


def test_a_misspelt_channel_is_an_error_with_a_suggestion() -> None:
    _, problems = load(b'[[providers]]\nname = "q"\nchannel = "opnai"', channels=CHANNELS)
    assert [problem.render("gproxy.toml") for problem in problems] == [
        'gproxy.toml:3: error: providers[0].channel: unknown channel "opnai"; did you mean "openai"?'
    ]


@pytest.mark.parametrize("channel", ["vertex", "geminicli", "claudecode", "codex", "kiro", "grok"])
def test_a_channel_we_do_not_have_is_loaded_disabled_with_a_warning(channel: str) -> None:
    """Its settings and credentials are its own, so nothing in them is unknown."""
    text = (
        f'[[providers]]\nname = "q"\nchannel = "{channel}"\n'
        'settings = { odd = 1 }\ncredentials = [{ session = "s" }]\n'
        '[[models]]\nprovider_name = "q"\nmodel_id = "m"'
    )
    config, problems = load(text.encode(), channels=CHANNELS)
    assert config is not None
    assert [problem.severity for problem in problems] == ["warning"]
    assert not config.providers[0].enabled
    assert config.providers[0].credentials == ()


LIMIT = '[[rate_limits]]\nuser_name = "u"\nmodel_pattern = "*"\n'
QUOTA = '[[quotas]]\nuser_name = "u"\n'


def test_limits_and_quotas_of_users_and_keys_are_taken_as_they_are() -> None:
    bounds = "rpm = 1\nrpd = 2\ntpm = 3\ntpd = 4\nmax_concurrency = 5\n"
    text = (
        f"[[users.keys]]\n{KEY}{bounds}quota = 0.5\n{LIMIT}{bounds}"
        f'{QUOTA}quota = 20\n{QUOTA}quota = 1\nperiod = "day"\n'
    )
    config, problems = load((BASE + text).encode(), channels=CHANNELS)
    assert problems == []
    assert config is not None
    for row in (config.users[0].keys[0], config.rate_limits[0]):
        assert [getattr(row, name) for name in schema.BOUNDS] == [1, 2, 3, 4, 5]
    assert [(row.quota, row.period) for row in config.quotas] == [(20.0, "total"), (1.0, "day")]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('[[rate_limits]]\nuser_name = "w"\nmodel_pattern = "*"\nrpm = 1', 'there is no user "w"'),
        (LIMIT, "rate_limits[0]: sets no limit"),
        (f"{LIMIT}rpm = 0", "rate_limits[0].rpm: must be at least 1"),
        (f"{LIMIT}tpm = -1", "rate_limits[0].tpm: must be at least 1"),
        (f"{LIMIT}tpd = 1.5", "rate_limits[0].tpd: must be a whole number"),
        (f"{LIMIT}rpm = true", "rate_limits[0].rpm: must be a whole number"),
        (f"{LIMIT}rpm = 1\n" * 2, "rate_limits[1]: this limit is given twice"),
        ('[[quotas]]\nuser_name = "w"\nquota = 1', 'there is no user "w"'),
        (f"{QUOTA}quota = 1\n" * 2, "quotas[1]: this quota is given twice"),
        (f'{QUOTA}quota = 1\n{QUOTA}quota = 2\nperiod = "total"', "quotas[1]: this quota is given twice"),
        (f"{QUOTA}quota = -1", "quotas[0].quota: must be at least 0"),
        (f"{QUOTA}quota = inf", "quotas[0].quota: must be a finite number"),
        (f"{QUOTA}quota = nan", "quotas[0].quota: must be a finite number"),
        (f"{QUOTA}quota = 1e300", "quotas[0].quota: must be at most"),
        (f"{QUOTA}quota = 1e-12", "quotas[0].quota: is less than a nano-dollar"),
        (f"{QUOTA}quota = 1\ncost_used = -0.5", "quotas[0].cost_used: must be at least 0"),
        (f"{QUOTA}quota = 1\ncost_used = nan", "quotas[0].cost_used: must be a finite number"),
        (f'{QUOTA}quota = 1\nperiod = "week"', "quotas[0].period: must be one of total, day, month"),
    ],
)
def test_a_limit_or_quota_that_means_nothing_is_one_error(text: str, error: str) -> None:
    assert [error in message for message in found(text, "error")] == [True]


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        (f"{QUOTA}quota = 0", "quotas[0].quota: 0 is unlimited"),
        (f'{QUOTA}quota = 1\nperiod = "day"\ncost_used = 1', "quotas[0].cost_used: counts in period"),
        (f"{LIMIT}tpd = 2\ntotal_tokens = 1", "rate_limits[0]: tpd and total_tokens are the same limit"),
        (
            '[[users.keys]]\napi_key = "sk-admin-1"',
            "users[0].keys[0].api_key: stands here in clear, and is short enough to be guessed",
        ),
        (
            '[[users.keys]]\napi_key = "sk-0123456789abcdefg"',
            "users[0].keys[0].api_key: stands here in clear",
        ),
        ('[global]\nhost = "0.0.0.0"', "global.host: is not a loopback address"),
        ('[global]\nhost = "proxy.example"', "global.host: is not a loopback address"),
        (
            "[global]\nenable_upstream_log_body = true",
            "global.enable_upstream_log_body: has no effect without `enable_upstream_log`",
        ),
        (
            "[global]\nenable_downstream_log_body = true",
            "global.enable_downstream_log_body: has no effect without",
        ),
        (
            '[[models]]\nprovider_name = "p"\nmodel_id = "m"\n'
            '[[model_aliases]]\nalias = "a"\nprovider_name = "p"\nmodel_id = "n"',
            'model_aliases[0].model_id: is not among the [[models]] of "p"',
        ),
        (
            '[[models]]\nprovider_name = "p"\nmodel_id = "m"\nprice_tiers = [{}, { input_tokens_up_to = 5 }]',
            "models[0].price_tiers[1]: is never reached",
        ),
        (
            '[[models]]\nprovider_name = "p"\nmodel_id = "m"\nprice_tiers = [{}]\nflex_price_tiers = [{}, {}]',
            "models[0].flex_price_tiers[1]: is never reached",
        ),
        (
            '[[models]]\nprovider_name = "p"\nmodel_id = "m"\npriority_price_each_call = 1',
            "models[0].priority_price_each_call: has no effect without price_tiers",
        ),
    ],
)
def test_a_warning_is_given_at_its_place(text: str, warning: str) -> None:
    assert [message for message in found(text, "warning") if message.startswith(warning)]


@pytest.mark.parametrize("value", ['"lots"', "-1", "nan"])
def test_a_quota_that_is_an_error_is_not_warned_about_as_unlimited(value: str) -> None:
    assert len(found(f"{QUOTA}quota = {value}", "error")) == 1
    assert not [text for text in found(f"{QUOTA}quota = {value}", "warning") if "quotas[0]" in text]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_a_loopback_host_is_no_cause_for_warning(host: str) -> None:
    assert found(f'[global]\nhost = "{host}"', "warning") == []


def test_one_fault_is_told_once() -> None:
    """A row that lacks its name is not taken for a second row of the same, empty, name."""
    text = "[[providers]]\n[[providers]]\n[[users]]\n[[users]]"
    assert [message for message in found(text, "error") if "missing" not in message] == []


def test_a_channel_without_an_address_of_its_own_needs_one() -> None:
    row = "[[providers]]\nname = 'x'\nchannel = 'custom'\n"
    _, problems = load(row.encode(), channels=CHANNELS)
    assert ["needs settings.base_url" in p.message for p in problems] == [True]
    _, problems = load(f"{row}settings = {{ base_url = 'http://127.0.0.1:1' }}\n".encode(), channels=CHANNELS)
    assert problems == []


@pytest.mark.parametrize(("system", "refused"), [("posix", False), ("nt", True)])
def test_several_workers_are_refused_where_there_is_no_fork(
    monkeypatch: pytest.MonkeyPatch, system: str, refused: bool
) -> None:
    monkeypatch.setattr(rules, "os", SimpleNamespace(name=system))
    errors = found("[global]\nworkers = 2", "error")
    assert bool(errors) == refused
    assert all(error.startswith("global.workers: Windows") for error in errors)


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        (PROVIDER + 'settings.protocols = ["gemini"]', "providers[1].settings.protocols: has no effect"),
        (
            ALIAS + 'targets = [{ provider_name = "p", model_id = "m", weight = 1 }]',
            "model_aliases[0].targets[0].weight: has no effect under strategy",
        ),
    ],
)
def test_what_does_nothing_yet_is_warned_about_by_name(text: str, warning: str) -> None:
    assert [message for message in found(text, "warning") if message.startswith(warning)]


def test_what_is_as_it_would_be_anyway_is_not_warned_about() -> None:
    text = (
        PROVIDER + 'settings = { on_disconnect = "drain", protocols = [] }\ncredentials = [{ env = "A" }]\n'
    )
    text += '[[providers]]\nname = "c"\nchannel = "custom"\n'
    text += 'settings = { base_url = "http://h", protocols = ["gemini"] }\n'
    text += ALIAS + 'strategy = "failover"\ntargets = [{ provider_name = "p", model_id = "m" }]'
    assert found(text, "warning") == []


@pytest.mark.parametrize("row", ['"a"', "{ foo = 1 }", "{ env = 1 }", '{ label = "l", keyrng = "x" }'])
def test_a_credential_with_one_fault_is_told_of_once(row: str) -> None:
    assert len(found(f"{PROVIDER}credentials = [{row}]", "error")) == 1


@pytest.mark.parametrize("row", ['"a"', "{ foo = 1 }", "{ api_key_hash = 1 }"])
def test_a_key_with_one_fault_is_told_of_once(row: str) -> None:
    assert len(found(f"keys = [{row}]", "error")) == 1


@pytest.mark.parametrize("row", ['"a"', '{ user_name = "u", model_pattern = "*", rmp = 1 }'])
def test_a_limit_without_a_bound_for_another_fault_is_told_of_that_alone(row: str) -> None:
    _, problems = load(f"rate_limits = [{row}]\n{BASE}".encode(), channels=CHANNELS)
    assert not [problem for problem in problems if "sets no limit" in problem.message]


def test_a_row_with_two_faults_is_told_of_both() -> None:
    assert len(found(f"{PROVIDER}credentials = [{{ label = 1 }}]", "error")) == 2
