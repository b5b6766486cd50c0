"""Fixtures of the ComfyUI tests: the pack inside this process (with ComfyUI's modules) and inside a real server."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
from PIL import Image

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT / "tests")]

from environment import comfyui_path  # noqa: E402

COMFYUI = comfyui_path()


def pytest_collection_modifyitems(items) -> None:
    if not (COMFYUI / "main.py").is_file():
        reason = f"NO COMFYUI AT {COMFYUI}: set COMFYUI_PATH"
        for item in items:
            if HERE in Path(item.fspath).parents:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def pack():
    """The node pack imported as ComfyUI imports it, with ComfyUI's own modules around it, on the CPU."""
    # ComfyUI's folder must come first: the pack's root holds a folder `nodes` too.
    sys.path.insert(0, str(COMFYUI))
    from comfy.cli_args import args

    args.cpu = True
    import comfy.model_management  # noqa: F401  (reads args.cpu once)

    spec = importlib.util.spec_from_file_location(
        "det_pack", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["det_pack"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def base_directory(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("comfyui")


def write_source_video(path: Path) -> None:
    """A square that crosses a patterned picture: 20 frames of 96x80 pixels at 8 per second."""
    import av
    import numpy as np

    picture = np.random.default_rng(0).integers(60, 120, (20, 24, 3)).repeat(4, 0).repeat(4, 1).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 96, 80, "yuv420p"
        for i in range(20):
            frame = picture.copy()
            frame[24:52, 8 + 3 * i : 32 + 3 * i] = (240, 200, 40)
            frame[34:40, 14 + 3 * i : 20 + 3 * i] = (20, 20, 200)
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


@pytest.fixture(scope="session")
def server(pack, base_directory):
    """A running server with the pack, shared by all tests of the session."""
    from checkpoints import write_checkpoints
    from comfy_server import ComfyServer

    running = ComfyServer(COMFYUI, ROOT, base_directory)
    write_checkpoints(base_directory)
    write_source_video(base_directory / "input" / "source.mp4")
    Image.new("RGB", (96, 80), (30, 160, 90)).save(base_directory / "input" / "picture.png")
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def small(pack):
    """Step-Video's small modules and their inputs."""
    import stepvideo_golden

    return stepvideo_golden


@pytest.fixture(scope="module")
def folder(small, tmp_path_factory):
    """A published folder of Step-Video, small."""
    import stepvideo_folder

    return stepvideo_folder.write_folder(tmp_path_factory.mktemp("models") / "stepvideo-t2v")
