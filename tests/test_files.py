"""Files are there whole or not at all."""

import pytest

from medseg_kd.files import whole_file, write_text


def test_what_is_written_takes_the_place_of_what_was_there(tmp_path):
    path = tmp_path / "new" / "page.md"
    write_text(path, "old")
    write_text(path, "über")
    assert path.read_text(encoding="utf-8") == "über"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_an_error_leaves_what_was_there_and_nothing_else(tmp_path, error):
    path = tmp_path / "volume.nii.gz"
    path.write_text("old")
    with pytest.raises(error), whole_file(path) as draft:
        assert draft.name.endswith(".nii.gz")
        draft.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
