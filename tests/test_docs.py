"""The guides work as they are written."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from tests.cli.commands import ROOT, succeed

BLOCK = re.compile(r"^```(python|bash)\n(.*?)^```", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"`([\w/]+\.py)`:\s*$")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A clone's own files, as far as the commands need them."""
    for name in ("train.py", "test.py"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("configs", "tools"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def blocks(page: str) -> list[tuple[str, str, str]]:
    """Kind, file name that the sentence before it ends with, and text of each code block."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = []
    for match in BLOCK.finditer(text):
        named = NAMED.search(text[: match.start()])
        found.append((match[1], named[1] if named else "", match[2]))
    return found


def test_add_your_own_network(home: Path) -> None:
    run = set()
    for kind, name, text in blocks("docs/networks.md"):
        if kind == "python" and name:
            (home / name).parent.mkdir(exist_ok=True)
            (home / name).write_text(text)
        elif kind == "bash":
            for line in text.splitlines():
                _, script, *arguments = shlex.split(line)
                succeed(str(home / script), *arguments, cwd=home)
                run.add(script)
    assert run >= {"train.py", "test.py"}


def test_the_contract_takes_the_network_of_the_guide() -> None:
    from tests.models.network_contract import NetworkContract

    (source,) = [text for _, name, text in blocks("docs/networks.md") if name == "my_networks.py"]
    names: dict = {}
    exec(source, names)
    net = names["TinyNet"](num_classes=9)
    contract = NetworkContract()
    contract.network, contract.reduction = dict(num_classes=9), 2
    contract.test_logits_have_the_promised_size(net)
    contract.test_feature_info_tells_the_truth(net)
    contract.test_every_parameter_gets_a_gradient(net)
