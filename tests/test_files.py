import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from det_core.files import atomic_write

ROOT = Path(__file__).resolve().parents[1]


def test_writes_the_whole_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "new folder" / "a.bin"
    with atomic_write(path) as temporary:
        assert temporary.suffix == ".bin" and temporary.parent == path.parent
        temporary.write_bytes(b"whole")
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    assert os.listdir(path.parent) == ["a.bin"]


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt()])
def test_earlier_file_survives_an_error(tmp_path, error):
    path = tmp_path / "a.bin"
    path.write_bytes(b"earlier")
    with pytest.raises(type(error)):
        with atomic_write(path) as temporary:
            temporary.write_bytes(b"half")
            raise error
    assert path.read_bytes() == b"earlier"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_unwritable_folder_is_named_before_the_body_runs(tmp_path):
    (tmp_path / "file").write_text("a file, not a folder")
    path = tmp_path / "file" / "a.bin"
    ran = False
    with pytest.raises(OSError, match="cannot write .*a.bin.*nothing was changed"):
        with atomic_write(path):
            ran = True
    assert not ran


def test_full_disk_keeps_the_earlier_file(tmp_path):
    """A file-size limit makes the system refuse the write as a full disk would."""
    path = tmp_path / "a.bin"
    path.write_bytes(b"earlier")
    code = (
        "import resource, signal, sys\n"
        "from det_core.files import atomic_write\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "with atomic_write(sys.argv[1]) as temporary:\n"
        "    temporary.write_bytes(bytes(5000))\n"
    )
    if sys.platform == "win32":
        pytest.skip("no file-size limits on Windows")
    run = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode != 0 and f"cannot write {path}" in run.stderr
    assert path.read_bytes() == b"earlier"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_safetensors_writer_errors_become_os_errors(tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(OSError, match="a.safetensors"):
        with atomic_write(path) as temporary:
            save_file({"x": torch.zeros(2)}, temporary.parent / "no such folder" / "b.safetensors")
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="file modes")
def test_others_may_read_what_the_umask_allows(tmp_path):
    path, plain = tmp_path / "a.safetensors", tmp_path / "plain"
    plain.write_text("")
    with atomic_write(path) as temporary:
        save_file({"x": torch.arange(3)}, temporary)
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)
    assert torch.equal(load_file(path)["x"], torch.arange(3))
