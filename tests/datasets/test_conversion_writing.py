"""A data folder is there whole or not at all, on a full disk too."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from medseg_kd.datasets.phantom import write_phantom
from medseg_kd.errors import WriteError


@pytest.mark.parametrize("suffix", [".npz", ".h5", ".txt", ".json"])
@pytest.mark.parametrize("there", [False, True])
def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, there: bool) -> None:
    out = tmp_path / "out"
    if there:
        out.mkdir()
    for kind in ("write_bytes", "write_text"):
        whole = getattr(Path, kind)

        def full(path: Path, content, *args, whole=whole, **options):
            if path.suffix == suffix:
                whole(path, content[: len(content) // 2], *args, **options)
                raise OSError(errno.ENOSPC, "No space left on device")
            return whole(path, content, *args, **options)

        monkeypatch.setattr(Path, kind, full)
    with pytest.raises(WriteError, match=r"could not write .*out: .*No space left on device.*Free some disk space"):
        write_phantom(out, 1, 1, 4, 48)
    assert [*tmp_path.rglob("*")] == ([out] if there else [])


@pytest.mark.full
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    """HDF5 ends the process when it cannot write to a file itself."""
    tmp_path.joinpath("disk").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(tmp_path / "disk")]
    if not sys.platform.startswith("linux") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not permitted")
    try:
        with pytest.raises(WriteError, match="No space left on device"):
            write_phantom(tmp_path / "disk" / "out", 1, 3, 8, 96)
        assert [*(tmp_path / "disk").rglob("*")] == []
    finally:
        subprocess.run(["umount", str(tmp_path / "disk")], check=True)
