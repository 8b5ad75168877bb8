"""The tree of commands: where each is, and its line in the lists. What each does is in its own module."""

from typing import Annotated

import typer

from gproxy import __version__
from gproxy.cli.groups import Branch, Leaf, branch

_CONFIG = Branch(
    "The configuration file.",
    {
        "path": Leaf("config:show_path", "Print where it is."),
        "show": Leaf("config:show", "Print what is in force, environment and defaults included."),
        "edit": Leaf("config:edit", "Edit a copy, and take it over if it has no errors."),
    },
)
_PROVIDERS = Branch(
    "The upstreams that serve the models.",
    {
        "add": Leaf("providers:add", "Add a provider."),
        "list": Leaf("providers:list_providers", "List them, and whether their keys can be read here."),
        "remove": Leaf("providers:remove", "Remove one, and its entry in the OS keyring."),
        "set-key": Leaf("providers:set_key", "Give one another key, or one more."),
        "test": Leaf("probe:probe_providers", "Make one real call by each credential."),
    },
)
_CREDENTIALS = Branch(
    "How the providers' credentials stand: ready, cooling down or disabled.",
    {
        "list": Leaf("credentials:list_credentials", "Show each with its state and last error."),
        "reset": Leaf("credentials:reset", "Make them ready again, all or those named."),
    },
    short="How the providers' credentials stand.",
)
_KEYS = Branch(
    "The keys that clients call with.",
    {
        "create": Leaf("keys:create", "Make a key and print it, once: only its hash is kept."),
        "add": Leaf("keys:create", "The same as create.", help="The same as create."),
        "list": Leaf("keys:list_keys", "List the keys, without what they are."),
        "disable": Leaf("keys:disable", "Refuse a key until it is enabled again."),
        "enable": Leaf("keys:enable", "Accept a disabled key again."),
        "revoke": Leaf("keys:revoke", "Remove a key for good."),
        "rotate": Leaf("keys:rotate", "Replace a key by a new one of the same label and policy."),
        "hash": Leaf("keys:hash_literals", "Put hashes in place of the keys that the file holds."),
    },
)
_USERS = Branch(
    "The users that keys belong to.",
    {
        "add": Leaf("users:add_user", "Add a user, who may use nothing until a permission allows it."),
        "list": Leaf("users:list_users", "List the users."),
        "disable": Leaf("users:disable_user", "Refuse all keys of a user until it is enabled again."),
        "enable": Leaf("users:enable_user", "Accept the keys of a disabled user again."),
        "remove": Leaf("users:remove_user", "Remove a user with its keys and all that names it."),
    },
)
_PERMISSIONS = Branch(
    "Who may use which models; nothing is allowed but what is listed.",
    {
        "allow": Leaf("users:allow", "Let a user use the models that a pattern matches."),
        "list": Leaf("users:list_permissions", "List who may use what."),
        "remove": Leaf("users:remove_permission", "Take one permission back, named as it was given."),
    },
    short="Who may use which models.",
)
_LIMITS = Branch(
    "How many requests and tokens users may have; of several rules the most specific applies.",
    {
        "set": Leaf("limits:set_limit", "Make a rule, or change those of its bounds that are given."),
        "list": Leaf("limits:list_limits", "List the rules of users, and the bounds of keys."),
        "remove": Leaf("limits:remove_limit", "Remove a rule of a user, named by its pattern."),
    },
    short="How many requests and tokens users may have.",
)
_QUOTA = Branch(
    "How much users and keys may spend, and what they have spent.",
    {
        "set": Leaf("quota:set_quota", "Set what a user, or one of its keys, may spend."),
        "top-up": Leaf("quota:top_up", "Raise a quota in the file by an amount; what was spent stays."),
        "show": Leaf("quota:show_quota", "Show quota, spend, what is held and what is left, in USD."),
    },
)
_IMPORT = Branch(
    "Take over a configuration from elsewhere.",
    {
        "litellm": Leaf("imports:from_litellm", "Take over a LiteLLM proxy's config.yaml."),
        "env": Leaf("imports:from_env", "Add a provider for each usual key in the environment."),
        "gproxy-v1": Leaf("imports:from_v1", "Take over the seed file of GPROXY v1."),
    },
)
_ALIAS = Branch(
    "Names of your own for models.",
    {
        "set": Leaf("models:set_alias", "Make an alias, or give one other targets."),
        "list": Leaf("models:list_aliases", "List the aliases."),
        "remove": Leaf("models:remove_alias", "Remove an alias."),
    },
)
_MODELS = Branch(
    "The models that are configured.",
    {
        "list": Leaf("models:list_models", "List models and aliases by the names that clients send."),
        "prices": Leaf("prices:prices", "List the prices in force, in USD per million tokens."),
        "price": Leaf("setprice:set_price", "Set what a model costs, in the file."),
    },
)
_USAGE = Branch(
    "What was used, and what it cost; without a command: report.",
    {
        "report": Leaf("usage:report", "Sum up requests, tokens and cost."),
        "export": Leaf("usage_store:export", "Write the rows of the ledger, all of one moment."),
        "prune": Leaf("usage_store:prune", "Remove old rows of the ledger for good."),
        "reprice": Leaf("reprice:reprice", "Price rows anew, by the prices in force."),
        "verify": Leaf("usage_store:verify", "Check that the ledger adds up."),
    },
    default="report",
)
_LOGS = Branch(
    "Request logs; without a command: list.",
    {
        "list": Leaf("logs:list_", "List requests, the newest last; with -f go on as they come."),
        "show": Leaf("logs:show", "Show all that is logged of one request."),
        "clear": Leaf("logs:clear", "Remove entries from the logs and give their room back."),
    },
    default="list",
)
_SERVICE = Branch(
    "gproxy as a service of yours: started at login, and again when it fails.",
    {
        "install": Leaf("service:install", "Write a systemd user unit or a launchd agent, and start it."),
        "uninstall": Leaf("service:uninstall", "Stop it and remove its file; your data stay."),
        "status": Leaf("service:status", "Say whether it is installed and runs."),
    },
    short="gproxy as a service of yours.",
)

TREE = Branch(
    "One proxy for OpenAI, Anthropic and Gemini traffic, with your own keys and an honest ledger.",
    {
        "init": Leaf("init:init", "Write a first gproxy.toml, with a provider and a key."),
        "serve": Leaf("serve:serve", "Serve until SIGTERM or Ctrl-C."),
        "check": Leaf("config:check", "Say all that is wrong with the configuration."),
        "explain": Leaf("explain:explain", "Say what would become of a request, and why."),
        "doctor": Leaf("doctor:doctor", "Look for what is wrong, and say what to do."),
        "env": Leaf("env:env", "Print what points a client at the proxy."),
        "run": Leaf("run:run", "Run a command with a key for this run alone.", takes_rest=True),
        "top": Leaf("top:top", "Watch a running server."),
        "config": _CONFIG,
        "providers": _PROVIDERS,
        "credentials": _CREDENTIALS,
        "keys": _KEYS,
        "users": _USERS,
        "permissions": _PERMISSIONS,
        "limits": _LIMITS,
        "quota": _QUOTA,
        "import": _IMPORT,
        "alias": _ALIAS,
        "models": _MODELS,
        "usage": _USAGE,
        "logs": _LOGS,
        "service": _SERVICE,
    },
)


def _version(asked: bool) -> None:
    if asked:
        print(f"gproxy {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """The options of `gproxy` itself."""


command = branch("gproxy", TREE, _options)
"""The whole tree as one command, ready to be called with arguments."""
