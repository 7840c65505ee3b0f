"""model-index.yml has the fields of OpenMMLab's, names what is there and holds numbers of the docs alone."""

import re
from typing import Any

import pytest
import yaml

from tests.cli.commands import ROOT

TOP = {"Collections", "Models"}
COLLECTION = {"Name", "Metadata", "Paper", "README", "Code"}
MODEL = {"Name", "In Collection", "Metadata", "Results", "Config"}
RESULT = {"Task", "Dataset", "Metrics"}
FILES = yaml.safe_load((ROOT / "model-index.yml").read_text())["Import"]
PARTS: list[dict[str, Any]] = [yaml.safe_load((ROOT / name).read_text()) for name in FILES]
COLLECTIONS = [each for part in PARTS for each in part.get("Collections", ())]
MODELS = [each for part in PARTS for each in part["Models"]]


def rows(page: str, title: str) -> dict[str, list[str]]:
    """The cells of the first table whose header begins so, by the first of each row, without what is emphasised."""
    text = (ROOT / page).read_text(encoding="utf-8")
    table = re.search(rf"^{re.escape(title)}.*\n\| ---.*\n((?:\|.*\n)+)", text, re.MULTILINE)
    cells = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in table[1].splitlines()]
    return {first: [cell.split(" ±")[0] for cell in others] for first, *others in cells}


def test_fields_and_names() -> None:
    assert sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("configs/*/metafile.yml")) == FILES
    assert all(part.keys() <= TOP for part in PARTS) and all(each.keys() == COLLECTION for each in COLLECTIONS)
    assert all(MODEL - {"Results"} <= each.keys() <= MODEL for each in MODELS)
    for names in ([each["Name"] for each in COLLECTIONS], [each["Name"] for each in MODELS]):
        assert len(names) == len({*names})
    assert {each["In Collection"] for each in MODELS} == {each["Name"] for each in COLLECTIONS}
    assert all(each.keys() == RESULT for model in MODELS for each in model.get("Results", ()))


def test_what_they_name_is_there() -> None:
    named = [path for each in COLLECTIONS for path in (each["README"], each["Code"]["URL"])]
    for each in MODELS:
        teachers = each["Metadata"].get("Teacher", [])
        named += [each["Config"], each["Metadata"].get("Student", each["Config"])]
        named += [teachers] if isinstance(teachers, str) else teachers
    assert not [path for path in named if not (ROOT / path).is_file()]
    paths = {each["Config"] for each in MODELS if "compare" not in each["Config"]}
    folders = {"/".join(path.split("/")[:2]) for path in paths}
    there = {path.relative_to(ROOT).as_posix() for each in folders for path in (ROOT / each).rglob("*synapse*.py")}
    assert there == paths


@pytest.mark.parametrize("model", MODELS, ids=[each["Name"] for each in MODELS])
def test_numbers_are_those_of_the_docs(model: dict[str, Any]) -> None:
    about, results = model["Metadata"], model.get("Results", [])
    numbers = {key: value for key, value in about.items() if isinstance(value, int)}
    batch, iterations = numbers.pop("Batch Size"), numbers.pop("Iterations")
    text = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    if not results:
        costs = rows("docs/models.md", "| Config | Parameters (M)")[about.get("Student", model["Config"])]
        assert numbers == {"Parameters": round(float(costs[0]) * 1e6), "FLOPs": round(float(costs[1]) * 1e9)}
        assert (batch, iterations) == (2, 40_000)  # of configs/_base_
        return
    if "Teacher" in about:
        row, *options = about["Method"].split(", ")
        (given,) = re.findall(r"options of the methods: (.*); where none is said", text)
        listed = [each.split(" ") for each in given.replace("`", "").split("; ")]
        assert row == model["In Collection"] and ([row, *options] in listed if options else row not in given.split(" "))
    else:
        row = {"teacher_w16_headneck": "teacher", "student_w8_headneck": "plain student"}[model["Name"]]
    assert f"`{model['Config']}`, {iterations} iterations of {batch} slices" in text
    (costs, means), organs = (rows("docs/results.md", each) for each in ("|  | parameters", "|  | Dice")), "brainstem"
    assert numbers == {"Parameters": round(float(costs[row][0]) * 1e6)}
    header = re.search(rf"^\|  \| ({organs}.*) \|$", text, re.MULTILINE)[1].split(" | ")
    scores = dict(zip(header, rows("docs/results.md", f"|  | {organs}")[row], strict=True))
    expected = {"Dice": means[row][0], "HD95 (mm)": means[row][1], **{f"Dice {name}": scores[name] for name in scores}}
    (result,) = results
    assert {name: f"{value:.2f}" for name, value in result["Metrics"].items()} == expected
