"""The scoring benchmark on a small case."""

import numpy as np
import pytest

import benchmark_evaluate
from benchmark import main
from medseg_kd.errors import UserError

SHAPE, ORGANS = (16, 48, 48), 3


def test_synthetic_case_is_a_function_of_its_seed() -> None:
    first, again, other = (benchmark_evaluate.synthetic_case(SHAPE, ORGANS, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first[1] != other[1]).any()
    assert (first[0] != first[1]).any()
    assert first[0].dtype == np.uint8
    assert set(np.unique(first[1])) == {0, 1, 2, 3}


def test_methods_agree_where_they_should() -> None:
    pred, truth = benchmark_evaluate.synthetic_case(SHAPE, ORGANS)
    scores = {name: method(pred, truth, ORGANS) for name, (_, method) in benchmark_evaluate.METHODS.items()}
    for name in ("ours", "scipy"):
        for organ, expected in scores["medpy"].items():
            assert scores[name][organ] == pytest.approx(expected, abs=1e-6)
    for organ, (dice, distance) in scores["medpy"].items():
        assert scores["ours_hd95"][organ][1] == pytest.approx(distance, abs=1e-6)
        assert scores["monai"][organ][0] == pytest.approx(dice, abs=1e-6)


def test_command_prints_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    main(
        [
            "evaluate",
            "--shape",
            *map(str, SHAPE),
            "--organs",
            str(ORGANS),
            "--repeat",
            "1",
            "--methods",
            "medpy",
            "ours",
        ]
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "one synthetic case of 16x48x48, 3 organs"
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    table = {row[0]: dict(zip(cells[0], row, strict=True)) for row in cells[1:]}
    assert set(table) == {"medpy", "ours"}
    assert float(table["ours"]["times ours"]) == 1.0
    assert float(table["ours"]["Dice diff"]) <= 1e-6
    assert float(table["ours"]["HD95 diff"]) <= 1e-6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--organs", "0"], "must be at least 1"),
        (["--shape", "2", "4", "4", "--organs", "8"], "too small for organs=8"),
    ],
)
def test_mistakes_are_named(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        main(["evaluate", *arguments])
