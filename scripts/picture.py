#!/usr/bin/env python3
"""Draws the README's terminal picture: real commands against a served demo, by rich's own export.

    python scripts/picture.py [FILE]      writes docs/terminal.svg, or FILE

Needs the package and nothing else; what it serves it ends. The pages' words are not its.
"""

import io
import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
WIDTH = 88
KEYS = {"alice": "sk-alice", "bob": "sk-bob"}
ASKED = {"alice": ["chat-default"] * 5 + ["demo/gpt-4.1"] * 2, "bob": ["chat-default"] * 3}
SHOWN = (
    ("explain", "chat-default", "--user", "alice"),
    ("usage", "--by", "user", "--by", "model", "--since", "7d"),
    ("quota", "show"),
)

USER = """
[[users]]
name = "{name}"
[[users.keys]]
label = "laptop"
api_key = "{key}"
[[permissions]]
user_name = "{name}"
model_pattern = "*"
"""
CONFIG = """
[[providers]]
name = "demo"
channel = "demo"
[[models]]
provider_name = "demo"
model_id = "gpt-4.1-mini"
price_tiers = [{ price_input_tokens = 0.4, price_output_tokens = 1.6 }]
[[models]]
provider_name = "demo"
model_id = "gpt-4.1"
price_tiers = [{ price_input_tokens = 2.0, price_output_tokens = 8.0 }]
[[model_aliases]]
alias = "chat-default"
provider_name = "demo"
model_id = "gpt-4.1-mini"
[[rate_limits]]
user_name = "alice"
model_pattern = "*"
rpm = 60
[[quotas]]
user_name = "alice"
quota = 20.0
period = "month"
""" + "".join(USER.format(name=name, key=key) for name, key in KEYS.items())


def main(target: Path) -> None:
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "gproxy.toml").write_text(CONFIG)
        environ = {name: value for name, value in os.environ.items() if not name.startswith("GPROXY_")}
        environ |= {"PYTHONPATH": str(ROOT), "COLUMNS": str(WIDTH)}
        command = [sys.executable, "-m", "gproxy"]
        with subprocess.Popen(
            [*command, "serve", "--port", "0"], cwd=folder, env=environ, stderr=subprocess.PIPE, text=True
        ) as server:
            try:
                said = iter(server.stderr or ())
                url = next(line for line in said if "listening on" in line).split()[-1]
                for user, models in ASKED.items():
                    for model in models:
                        ask(url, KEYS[user], model)
                for arguments in SHOWN:
                    done = subprocess.run(
                        [*command, *arguments],
                        cwd=folder,
                        env=environ,
                        capture_output=True,
                        text=True,
                        check=True,
                    )
                    console.print(Text(f"$ gproxy {' '.join(arguments)}", style="bold green"))
                    console.print(Text(done.stdout.rstrip() + "\n"))
            finally:
                server.terminate()
    # The picture loads nothing: the reader's own fonts do.
    picture = console.export_svg(title="gproxy", unique_id="t")
    target.write_text(re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.S), encoding="utf-8")


def ask(url: str, key: str, model: str) -> None:
    """One chat, whose answer is not looked at."""
    body = {"model": model, "messages": [{"role": "user", "content": "What is the capital of France?"}]}
    request = urllib.request.Request(
        f"{url}/v1/chat/completions",
        json.dumps(body).encode(),
        {"authorization": f"Bearer {key}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        answer.read()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "terminal.svg")
