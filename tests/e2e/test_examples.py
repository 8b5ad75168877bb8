"""Every example runs as it stands, against `gproxy serve --demo` in a process of its own."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

SAYS = {
    "anthropic_messages.py": "What is the capital of France?",
    "curl.sh": "== /demo/v1beta/models/echo-1:generateContent",
    "embeddings.py": "1 [",
    "gemini_generate.py": "And of Italy?",
    "openai_chat.py": "demo/echo-1 8 tokens in,",
    "openai_responses.py": "tokens in,",
    "openai_stream.py": "Tell me something while I watch.",
    "tools_openai.py": 'get_weather({"city": "Paris"}) -> 18 degrees and sunny in Paris',
}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment that the examples read, of a served demo; its working folder must stay empty."""
    folder = tmp_path_factory.mktemp("demo")
    env = {name: value for name, value in os.environ.items() if not name.startswith("GPROXY_")}
    path = os.pathsep.join(filter(None, (str(EXAMPLES.parent), env.get("PYTHONPATH"))))
    command = [sys.executable, "-m", "gproxy", "serve", "--demo", "--port", "0"]
    with subprocess.Popen(
        command,
        cwd=folder,
        env=env | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout
        said = ""
        while "curl " not in said:
            line = process.stdout.readline()
            assert line, f"the demo ended: {said}"
            said += line
        found = re.search(r"demo is at (\S+)\nkey: (\S+)", said)
        assert found, said
        yield env | {"GPROXY_URL": found[1], "GPROXY_API_KEY": found[2]}
        assert process.poll() is None, "the demo ended by itself"
        process.terminate()
        assert process.wait(20) == 0
    assert list(folder.iterdir()) == []


def test_every_example_is_run_here() -> None:
    assert {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".sh")} == set(SAYS)


@pytest.mark.parametrize("name", SAYS)
def test_an_example_runs_as_it_stands(name: str, demo: dict[str, str]) -> None:
    runner = ["sh"] if name.endswith(".sh") else [sys.executable]
    done = subprocess.run([*runner, EXAMPLES / name], env=demo, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    assert SAYS[name] in done.stdout
