"""The tree of commands. What each does is in its own module, which imports what it needs only when called."""

import typer

from gproxy.cli import (
    config,
    credentials,
    doctor,
    env,
    explain,
    imports,
    init,
    keys,
    limits,
    logs,
    models,
    prices,
    probe,
    providers,
    quota,
    reprice,
    run,
    serve,
    service,
    top,
    usage,
    usage_store,
    users,
)
from gproxy.cli.root import root

app = root()
app.command("init", short_help="Write a first gproxy.toml, with a provider and a key.")(init.init)
app.command("serve")(serve.serve)
app.command("check", short_help="Say all that is wrong with the configuration.")(config.check)
app.add_typer(config.app, name="config")
providers.app.command("test")(probe.probe_providers)
app.add_typer(providers.app, name="providers")
app.add_typer(credentials.app, name="credentials", short_help="How the providers' credentials stand.")
app.add_typer(keys.app, name="keys")
app.add_typer(users.users, name="users")
app.add_typer(users.permissions, name="permissions", short_help="Who may use which models.")
app.add_typer(limits.app, name="limits", short_help="How many requests and tokens users may have.")
app.add_typer(quota.app, name="quota")
app.command("explain", short_help="Say what would become of a request, and why.")(explain.explain)
app.add_typer(imports.app, name="import")
app.command("doctor", short_help="Look for what is wrong, and say what to do.")(doctor.doctor)
app.command("env", short_help="Print what points a client at the proxy.")(env.env)
app.command(
    "run",
    short_help="Run a command with a key for this run alone.",
    context_settings={"allow_interspersed_args": False},
)(run.run)
app.add_typer(models.alias, name="alias")
models.models.command("prices")(prices.prices)
app.add_typer(models.models, name="models")
usage.app.command("export")(usage_store.export)
usage.app.command("prune")(usage_store.prune)
usage.app.command("reprice")(reprice.reprice)
usage.app.command("verify")(usage_store.verify)
app.add_typer(usage.app, name="usage")
app.add_typer(logs.app, name="logs")
app.command("top", short_help="Watch a running server.")(top.top)
app.add_typer(service.app, name="service", short_help="gproxy as a service of yours.")

command = typer.main.get_command(app)
"""The whole tree as one command, ready to be called with arguments."""
