"""Files: whole or not there, no leftovers, readable by others, within bounds, and names that every system takes."""

import io
import json
import os
import stat
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from det_core import files
from det_core.files import atomic_write, check_name, remove_leftovers

ROOT = Path(__file__).resolve().parents[1]


def test_writes_the_whole_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "new folder" / "a.bin"
    with atomic_write(path) as temporary:
        assert temporary.name == path.name and temporary.parent.parent == path.parent
        temporary.write_bytes(b"whole")
        assert not path.exists()
        assert all(files.is_hidden(name) for name in os.listdir(path.parent))
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
    with pytest.raises(OSError, match="cannot write to .*file"):
        files.check_writable(tmp_path / "file")
    files.check_writable(tmp_path / "new" / "folder")
    assert os.listdir(tmp_path / "new" / "folder") == []


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
    files.write_tensors(path, {"x": torch.arange(3)}, {"about": "three"})
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)
    assert torch.equal(load_file(path)["x"], torch.arange(3))
    assert files.read_metadata(path) == {"about": "three"}


def test_a_drive_that_lets_no_one_change_modes_can_be_written_to(tmp_path, monkeypatch):
    def refused(*_):
        raise PermissionError

    monkeypatch.setattr(os, "chmod", refused)
    files.write_json(tmp_path / "a.json", {})
    assert (tmp_path / "a.json").read_text() == "{}\n"


def test_json_is_written_whole(tmp_path):
    files.write_json(tmp_path / "a.json", {"a": [1.5, None]})
    assert (tmp_path / "a.json").read_text() == '{\n  "a": [\n    1.5,\n    null\n  ]\n}\n'
    with pytest.raises(TypeError):
        files.write_json(tmp_path / "a.json", object())
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [1.5, None]}
    assert os.listdir(tmp_path) == ["a.json"]


# ---------------------------------------------------------------------------------------------- what kills leave


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="processes are asked for by their number")
def test_what_a_killed_write_left_goes_at_the_next_one_to_the_same_path(tmp_path):
    path = tmp_path / "a.safetensors"
    code = (
        "import os, signal, sys\n"
        "from det_core.files import atomic_write\n"
        "with atomic_write(sys.argv[1]) as temporary:\n"
        "    (temporary.parent / '.tmp123').write_bytes(bytes(1000))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    for _ in range(2):
        subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT)
    assert len(os.listdir(tmp_path)) == 1, "the second start removes what the first left"
    assert all(files.is_hidden(name) for name in os.listdir(tmp_path))
    files.write_tensors(path, {"x": torch.zeros(1)}, {})
    assert os.listdir(tmp_path) == ["a.safetensors"]


def test_only_own_and_abandoned_leftovers_go(tmp_path):
    path = tmp_path / "a.safetensors"
    old, other, user = ".a.1a2b3c4d.safetensors", ".ab.1a2b3c4d.safetensors", ".a.notes.safetensors"
    for name in (old, other, user):
        (tmp_path / name).write_text("")
        os.utime(tmp_path / name, (0, 0))
    with atomic_write(path) as temporary:
        remove_leftovers(path)
        assert temporary.exists(), "a file that is being written stays"
    fresh = tmp_path / ".a.ffffffff.safetensors"
    fresh.write_text("")
    remove_leftovers(path)
    assert set(os.listdir(tmp_path)) == {"a.safetensors", other, user, fresh.name}
    os.utime(fresh, (time.time() - 4000,) * 2)
    remove_leftovers(path)
    assert not fresh.exists()


# ---------------------------------------------------------------------------------------------- reading


def _npy(shape: tuple, dtype: str, version: int = 1) -> bytes:
    """The header of an array, and nothing of its numbers."""
    file = io.BytesIO()
    write = np.lib.format.write_array_header_1_0 if version == 1 else np.lib.format.write_array_header_2_0
    write(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue()


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (_npy((10**12,), "<f8"), "too large"),
        (_npy((2**62, 4), "<f8"), "too large"),
        (_npy((), "<U100000000"), "too large"),
        (_npy((2, 2), "<c8"), "no real numbers"),
        (_npy((2,), "|V8"), "no real numbers"),
        (_npy((2,), "<f4", version=2), "unusual"),
    ],
)
def test_arrays_are_judged_by_their_headers(tmp_path, member, message):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("points.npy", member)
    with pytest.raises(ValueError, match=message):
        files.read_arrays(path, {"points"})
    assert files.read_arrays(path, {"visible"}) == {}


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(1).expand(20000, 20000, 3),
        torch.zeros(3, device="meta"),
        torch.zeros(3).to_sparse(),
        torch.zeros(3, dtype=torch.complex64),
        "text",
    ],
)
def test_a_tensor_whose_numbers_are_not_in_the_file_is_not_plain(tensor):
    assert not files.is_plain(tensor)
    assert files.is_plain(torch.zeros(4, 6)[::2].T), "a slice of numbers that are there is"


def test_a_compressed_pth_is_refused_before_it_is_unpacked(tmp_path):
    path, bomb = tmp_path / "a.pth", tmp_path / "b.pth"
    torch.save({"a": torch.zeros(10**6)}, path)
    assert torch.equal(files.read_pickled(path)["a"], torch.zeros(10**6))
    with zipfile.ZipFile(path) as stored, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in stored.namelist():
            packed.writestr(name, stored.read(name))
    with pytest.raises(ValueError, match="b.pth was not opened.*compressed"):
        files.read_pickled(bomb)


@pytest.mark.parametrize("text", ["[" * 900, "[" * 200_000, '{"a": [1', "1" * 2_000_000, "NaN!"])
def test_json_of_a_file_is_bounded_and_its_errors_name_the_file(text):
    with pytest.raises(ValueError, match=r"^a.file is damaged: its losses [^\n]*$"):
        files.checked_json("a.file", "losses", text)


# ---------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    "name", ["my motion", "clips/a/b", "x.safetensors", "дуга", "猫の動き", "a.b-c_d", "console", "a" * 180]
)
def test_names_of_all_scripts_are_taken(name, tmp_path):
    clean = check_name(name)
    files.write_json(tmp_path / f"{clean}.1a2b3c4d.state.safetensors", 0)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        (["a"], "not a list"),
        (None, "not a NoneType"),
        (3.0, "not a float"),
        ("", "empty"),
        ("  ", "empty"),
        (".safetensors", "empty"),
        *((name, r"\.\.") for name in ("..", "../a", "a/../b", "/etc/a", "a//b", "a/", "./a")),
        *((name, "has a ") for name in ("C:/a", r"a\b", "a?", "a*b", 'a"b', "a|b", "<a>")),
        *((name, "cannot be seen") for name in ("a\0b", "a\nb", "a\u202eb", "a\u200bb", "\ufeffa", "a\u2028b")),
        *((name, "cannot be seen") for name in ("a\x7f", "\ud800", "a\ue000")),
        *((name, "bytes") for name in ("a" * 181, "猫" * 61, "/".join("a" * 100))),
        *((name, "device") for name in ("CON", "nul", "Aux.txt", "a/LPT1", "com1/x", "COM¹", "prn ")),
        *((name, "dot|space") for name in ("a.", "a ./b", "a /b", ".hidden", "a/.b")),
        *((name, "unfinished") for name in ("run.state", "run.STATE", "a/run.state.safetensors")),
    ],
)
def test_names_that_some_system_cannot_take_are_refused_in_one_line(name, wrong):
    with pytest.raises(ValueError, match=wrong) as error:
        check_name(name)
    said = str(error.value)
    assert "\n" not in said and len(said) < 250 and said.isprintable()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mapped files are asked of Linux")
def test_what_was_loaded_does_not_keep_its_file_open(tmp_path):
    """Windows lets no file be written over that a tensor is still mapped to."""
    from det_core.files import read_tensors
    from det_core.guidance.reference import MotionReference
    from det_core.tracking.tracks import Tracks
    from det_core.training.state import TrainState

    generator = torch.Generator().get_state()
    tracks = Tracks(torch.rand(40, 50, 2), torch.ones(40, 50, dtype=torch.bool))
    state = TrainState({"adapter.w": torch.rand(9000), "generator": generator}, 1, {"total": [0.5]}, {"steps": 1})
    files = {name: tmp_path / f"{name}.safetensors" for name in ("state", "motion", "tracks")}
    state.save(files["state"])
    MotionReference(torch.rand(1, 16, 9, 8, 8), "wan").save(files["motion"])
    tracks.save(files["tracks"])
    kept = [TrainState.load(files["state"]), MotionReference.load(files["motion"]), Tracks.load(files["tracks"])]
    kept.append(read_tensors(files["state"]))
    mapped = Path("/proc/self/maps").read_text(encoding="utf-8")
    assert [name for name, file in files.items() if str(file) in mapped] == [] and len(kept) == 4
