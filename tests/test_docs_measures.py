"""docs/evaluation.md: the metric that it adds works as it is written: in a config, in files, in the comparison."""

import csv
import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.runner import Runner

from medseg_kd.cli.compare_runs import main
from medseg_kd.errors import UserError
from medseg_kd.evaluation import VolumeMetric, volume_metric
from medseg_kd.registry import MEASURES
from tests.cli.commands import succeed
from tests.test_docs import blocks

PAGE = "docs/evaluation.md"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Config]:
    """The config of the page, its module beside it."""
    for _, name, text in blocks(PAGE):
        if name:
            (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield Config.fromfile("my_config.py")
    MEASURES.module_dict.pop("Recall", None)
    sys.modules.pop("my_measures", None)


def run(evaluator: object, folder: str, organ: slice) -> dict[str, float]:
    """Score one case of the true organ [2, 6) and one without it, where it is invented."""
    (metric,) = Runner.build_evaluator(None, evaluator).metrics
    metric.output_dir = str(Path(folder, "test"))
    runner = Evaluator(metric)
    runner.dataset_meta = {"classes": ("background", "liver")}
    for case in range(2):
        truth, pred = np.zeros((2, 3, 8, 8), np.uint8)
        truth[:, :, 2:6], pred[:, :, organ] = 1 - case, 1
        sample = {"pred_sem_seg": {"data": pred}, "gt_sem_seg": {"data": truth}, "case_name": f"case{case}"}
        runner.process([dict(sample, spacing=(3.0, 1.0, 1.0))])
    return runner.evaluate(2)


def test_the_new_metric_is_scored(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    printed: list[str] = []
    monkeypatch.setattr(volume_metric, "print_log", lambda text, logger: printed.append(text))
    assert run(config.test_evaluator, "a", slice(2, 5))["mRecall"] == pytest.approx((75 + 100) / 2)
    assert "Dice, Recall in %" in printed[0]
    found = json.loads(Path("a/test/metrics.json").read_text())
    assert found["strict"]["mRecall"] == found["strict"]["per_class"]["liver"]["Recall"] == 75
    with open("a/test/per_case.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    header = ["protocol", "case", "class", "dice", "jaccard", "hd95", "asd", "recall", "unit", "status"]
    assert list(rows[0]) == header
    assert [row["recall"] for row in rows] == ["75.0", "100.0", "75.0", "nan"]


def test_written_to_a_file_it_is_the_same(config: Config) -> None:
    config.dump("dumped.py")
    again = Config.fromfile("dumped.py")
    assert "my_measures.Recall" in Path("dumped.py").read_text()
    assert run(again.test_evaluator, "a", slice(2, 5)) == run(config.test_evaluator, "b", slice(2, 5))


def test_runs_are_compared_by_it(config: Config) -> None:
    for folder, organ in (("RUN_A", slice(2, 4)), ("RUN_B", slice(2, 6))):
        run(config.test_evaluator, folder, organ)
    (command,) = [text for kind, _, text in blocks(PAGE) if kind == "bash"]
    python, script, *arguments = shlex.split(command)
    assert python == "python"
    text = succeed(script, *arguments, cwd=Path.cwd())
    assert "| run | Dice (%) | Recall (%) | liver |" in text
    assert "RUN_B minus RUN_A: Recall (%), above 0 is better" in text
    with pytest.raises(UserError, match="RUN_A.*lacks the columns nsd"):
        main(["RUN_A", "RUN_B", "--measures", "NSD"])
    with pytest.raises(UserError, match="measure 'Precision' is not known: expected .*Recall"):
        main(["RUN_A", "RUN_B", "--measures", "Precision"])


def test_a_metric_that_does_not_say_all_is_refused(config: Config) -> None:
    from medseg_kd.evaluation.measures import Measure

    class Silent(Measure):
        unit = "percent"

    with pytest.raises(UserError, match="Silent does not say its higher_is_better, absent"):
        VolumeMetric(measures=[Silent])


def test_options_of_the_page() -> None:
    """Each ``val_evaluator`` and ``test_evaluator`` that the page shows is built."""
    built = set()
    for _, name, text in blocks(PAGE):
        if "_evaluator" in text and not name:
            names: dict = {"VolumeMetric": VolumeMetric}
            exec(text, names)
            for key in ("val_evaluator", "test_evaluator"):
                if key in names:
                    assert Runner.build_evaluator(None, names[key]).metrics
                    built.add(key)
    assert built == {"val_evaluator", "test_evaluator"}
