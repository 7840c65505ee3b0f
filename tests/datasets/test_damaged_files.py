"""Whatever a file holds: it is read, or refused in one message."""

import random
from pathlib import Path

import pytest

from medseg_kd.datasets.headers import VARIABLE
from medseg_kd.errors import UserError
from sample_folders import SAMPLES, damaged, read_sample, write_sample


@pytest.mark.parametrize("count", [60, pytest.param(3000, marks=pytest.mark.full)])
@pytest.mark.parametrize("name", SAMPLES)
def test_bytes_that_are_changed_cut_out_or_put_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, count: int
) -> None:
    sample = SAMPLES[name]
    whole = write_sample(sample, tmp_path)
    read_sample(sample, tmp_path)
    monkeypatch.setenv(VARIABLE, "1e6")
    refused = 0
    for seed in range(count):
        content = damaged(whole, random.Random(f"{name} {seed}"))
        (tmp_path / sample.file).write_bytes(content)
        try:
            read_sample(sample, tmp_path)
        except UserError as error:
            refused += 1
            assert len(str(error).splitlines()) <= 6 and str(tmp_path) in str(error), f"seed {seed}: {error}"
    assert refused > count / 10
