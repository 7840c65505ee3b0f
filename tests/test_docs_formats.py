"""docs/formats.md: the format that it adds works as it is written, and its table names the formats there are."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg_kd.datasets import CaseDataset, SliceDataset
from medseg_kd.datasets.formats import Format
from medseg_kd.errors import UserError
from medseg_kd.registry import FORMATS
from tests.cli.commands import ROOT
from tests.test_docs import blocks

PAGE = "docs/formats.md"


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The page's blocks, run one after the other in an empty folder."""
    (_, module, source), (_, _, usage) = blocks(PAGE)
    (tmp_path / module).write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    names: dict[str, Any] = {}
    exec(usage, names)
    yield names
    FORMATS.module_dict.pop("Npy")
    sys.modules.pop("my_formats")


def test_the_new_format_is_read(names: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    kind, spec = names["my_formats"].Npy, names["spec"]
    for given in ("auto", "npy", kind, "my_formats.Npy"):
        assert isinstance(SliceDataset("data", format=given, spec=spec).format, kind)
    item = CaseDataset("data", format=kind, spec=spec)[0]
    values, label = np.load("data/test/case1.npy")
    np.testing.assert_array_equal(item["labels"], label)
    np.testing.assert_allclose(item["inputs"][:, 0], np.clip((values + 160) / 400, 0, 1), atol=1e-6)
    assert item["meta"]["spacing"] == (3, 1, 1)
    assert names["slices"][3]["meta"] == {"case_name": "case1", "slice_index": 3, "ori_shape": (32, 32)}


def test_what_is_checked_behind_it(names: dict[str, Any]) -> None:
    content = np.load("data/train/case1.npy").astype(float)
    content[0, 0, 0, 0] = np.nan
    np.save("data/train/case1.npy", content)
    with pytest.raises(UserError, match="case1.npy: 1 of 4096 image values are NaN"):
        SliceDataset("data", spec=names["spec"])[0]
    with pytest.raises(
        UserError, match="dataset.format is 'my_formats.Other', expected auto, msd, nnunet, .*, npy or a class"
    ):
        SliceDataset("data", format="my_formats.Other", spec=names["spec"])
    for kind in ("npy", names["my_formats"].Npy):
        with pytest.raises(UserError, match=r"data holds no val split in the format\n  npy: <split>/\*.npy"):
            SliceDataset("data", "val", format=kind, spec=names["spec"])


def test_the_table_names_the_formats() -> None:
    table = (ROOT / PAGE).read_text(encoding="utf-8").split("## ")[0]
    FORMATS.import_from_location()
    kinds: list[type[Format]] = list(FORMATS.module_dict.values())
    assert sorted(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == sorted(kind.name for kind in kinds)
