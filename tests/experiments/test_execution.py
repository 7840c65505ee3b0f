"""How runs are executed."""

import json
from pathlib import Path

import pytest
import torch

from medseg_kd.errors import UserError
from medseg_kd.experiments import Run, execute, execution, facts, is_tested
from tests.cli.experiment_runs import Forked, write_config


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a config, whose runs are forked."""
    write_config(tmp_path, "student", 8)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Forked, "started", [], raising=False)
    monkeypatch.setattr(execution, "start_process", Forked)
    return tmp_path


def test_an_interrupted_run_goes_on(home, phantom):
    """Stopped after two of four iterations: the log of the second training begins at the third."""
    options = ("train_cfg.max_iters=4", "default_hooks.checkpoint.interval=2")
    run = Run("student.py", Path("run"), options, data_root=str(phantom))
    execute([run])
    (whole,) = Path("run").glob("*/vis_data/scalars.json")
    before = torch.load("run/iter_4.pth", weights_only=True)["state_dict"]

    Path("run/iter_4.pth").unlink()
    Path("run/last_checkpoint").unlink()
    state = json.loads(Path("run/run.json").read_text())
    Path("run/run.json").write_text(json.dumps({"origin": state["origin"]}))
    whole.unlink()
    early = Run("student.py", Path("early"), ("train_cfg.max_iters=2", "param_scheduler.1.end=250"), (), str(phantom))
    execute([early])
    Path("early/iter_2.pth").replace("run/iter_2.pth")
    assert not is_tested(run)
    execute([run])
    assert "[3/4]" in Path("run/train.log").read_text(encoding="utf-8")
    assert "[2/4]" not in Path("run/train.log").read_text(encoding="utf-8")
    after = torch.load("run/iter_4.pth", weights_only=True)["state_dict"]
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert facts(run)["seconds"] > 0


def test_processes_end_with_the_command(home):
    """A failure of one run ends the other, which would run for a minute."""
    sleeping = []

    class Scripted(Forked):
        def __init__(self, command, log, environment):
            self.fails = "fails" in command[2:]
            log.write_text("out of luck")
            self.ended = False
            sleeping.append(self)

        @property
        def returncode(self):
            return 1 if self.fails else None

        def poll(self):
            return self.returncode

        def terminate(self):
            self.ended = True

        def wait(self):
            assert self.ended

    execution.start_process = Scripted
    with pytest.raises(UserError, match="out of luck"):
        execute([Run("student.py", Path("sleeps")), Run("student.py", Path("fails"))], jobs=2)
    assert [each.ended for each in sleeping] == [True, False]
