"""The words of messages."""

import os

import pytest

from medseg_kd.errors import did_you_mean, explanation, first_line, last_line


@pytest.mark.parametrize(
    ("name", "expected"), [("resnet5", "; did you mean resnet50 or resnet18?"), ("zebra", "; there are two")]
)
def test_the_nearest_names(name, expected):
    assert did_you_mean(name, ["resnet18", "resnet50", "vit"], "; there are two") == expected


def test_long_names_are_listed():
    assert did_you_mean("configs/a.pi", ["configs/a.py"], in_lines=True) == "; did you mean\n    configs/a.py"


def test_lines_of_a_message():
    error = ValueError("\nITK ERROR\n  no such file \n")
    assert (first_line(ValueError("a\nb")), last_line(error)) == ("a", "no such file")
    assert first_line(ValueError()) == last_line(ValueError("\n")) == "ValueError"


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_a_link_to_itself_is_no_defect(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    try:
        (tmp_path / "loop").resolve()
    except (OSError, RuntimeError) as error:
        assert str(tmp_path / "loop") in explanation(error)
