"""Files are there whole or not at all."""

import errno
import json
import os
import socket
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from medseg_kd import files
from medseg_kd.errors import UserError
from medseg_kd.files import LockedError, is_locked, locked, remove_drafts, whole_file, write_text
from tests.fork_server import running_server


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


def _hold(path, ready, end):
    with locked(path):
        ready.set()
        end.wait(60)


@pytest.fixture
def holder(tmp_path):
    """Another process that holds a lock; what ends it in good order."""
    context = running_server()
    ready, end = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(tmp_path / ".lock", ready, end))
    process.start()
    assert ready.wait(60)
    yield process, end
    process.kill()
    process.join()


def test_a_lock_excludes_other_processes_and_names_its_holder(tmp_path, holder):
    process, end = holder
    path = tmp_path / ".lock"
    assert is_locked(path)
    named = rf"{tmp_path} is in use by process {process.pid} on {socket.gethostname()}, which started on \d{{4}}-"
    with pytest.raises(LockedError, match=named), locked(path):
        pass
    end.set()
    with locked(path, wait=True) as died:
        assert died == ""
    assert not path.exists() and not is_locked(path)


def test_the_lock_of_a_process_that_was_killed_is_taken_over(tmp_path, holder):
    process, _ = holder
    process.kill()
    process.join()
    with locked(tmp_path / ".lock") as died:
        assert f"process {process.pid} on " in died


def test_a_lock_goes_with_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), locked(tmp_path / "new/.lock"):
        raise ZeroDivisionError
    assert not list((tmp_path / "new").iterdir())


def test_a_lock_is_no_link(tmp_path):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / ".lock").symlink_to(tmp_path / "precious")
    with pytest.raises(UserError, match="cannot be written"), locked(tmp_path / ".lock"):
        pass
    assert (tmp_path / "precious").read_text() == "mine"


@pytest.mark.parametrize(
    ("host", "pid", "taken"),
    [(None, os.getpid(), False), (None, 2**22 + 1, True), ("elsewhere", 2**22 + 1, False)],
    ids=["alive", "dead", "elsewhere"],
)
def test_without_locks_of_the_file_system_the_file_is_believed(tmp_path, monkeypatch, host, pid, taken):
    monkeypatch.setattr("fcntl.lockf", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOLCK, "no locks")))
    path = tmp_path / ".lock"
    path.write_text(json.dumps({"host": host or socket.gethostname(), "pid": pid, "since": "2026-01-01 00:00:00"}))
    if taken:
        with locked(path) as died:
            assert str(pid) in died
    else:
        with pytest.raises(LockedError, match=f"process {pid}.*delete"), locked(path):
            pass


def test_a_lock_that_was_half_written_when_its_process_was_killed_is_free(tmp_path):
    (tmp_path / ".lock").write_text('{"host": "here", "pi')
    with locked(tmp_path / ".lock") as died:
        assert died == ""


@pytest.fixture
def windows(monkeypatch):
    """What Windows has in place of the locks and signals of others."""
    held = set()

    def locking(descriptor, mode, count):
        assert os.lseek(descriptor, 0, os.SEEK_CUR) > 1 << 20 and mode == 2 and count == 1
        there = [each for each in held - {descriptor} if Path(f"/proc/self/fd/{each}").exists()]
        if os.fstat(descriptor).st_ino in [os.fstat(each).st_ino for each in there]:
            raise PermissionError(errno.EACCES, "Permission denied")
        held.add(descriptor)

    monkeypatch.delattr(files, "fcntl")
    monkeypatch.setattr(files, "msvcrt", SimpleNamespace(locking=locking, LK_NBLCK=2), raising=False)
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("signal 0 would end a process"))


def test_a_lock_on_windows(tmp_path, windows):
    path = tmp_path / ".lock"
    with locked(path):
        assert is_locked(path)
        with pytest.raises(LockedError, match=f"in use by process {os.getpid()} on .*delete"), locked(path):
            pass
    with locked(path) as died:
        assert died == ""


def test_drafts_on_windows_are_removed_unless_a_process_writes_them(tmp_path, windows, monkeypatch):
    for name in (".1-iter_5.pth", ".2-iter_6.pth", "iter_6.pth"):
        (tmp_path / name).write_bytes(b"half")
    unlink = type(tmp_path).unlink

    def refuse(path, **options):
        if path.name.startswith(".2-"):
            raise PermissionError(errno.EACCES, "The process cannot access the file", str(path))
        unlink(path, **options)

    monkeypatch.setattr(type(tmp_path), "unlink", refuse)
    remove_drafts(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".2-iter_6.pth", "iter_6.pth"]
