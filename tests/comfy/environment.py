"""Make the environment that the ComfyUI tests run in: `python3 tests/comfy/environment.py`.

A virtual environment `.venv-comfyui` beside the project with ComfyUI's own requirements, this pack's, and the test
tools. ComfyUI itself is not installed: its folder is COMFYUI_PATH (default ~/comfy/ComfyUI, where comfy-cli puts it).
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".venv-comfyui"
# ComfyUI 0.33 pins no torch; torchvision and torchaudio must match it, so the three are named together.
TORCH = ["torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0"]
TEST_TOOLS = ["pytest", "websocket-client", "accelerate"]


def comfyui_path() -> Path:
    """The ComfyUI tree under test."""
    return Path(os.environ.get("COMFYUI_PATH", "~/comfy/ComfyUI")).expanduser()


def python() -> Path:
    """The environment's interpreter."""
    return FOLDER / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def main() -> int:
    tree = comfyui_path()
    if not (tree / "main.py").is_file():
        print(
            f"NO COMFYUI AT {tree}: set COMFYUI_PATH to a ComfyUI 0.33 folder. The ComfyUI tests were NOT run.",
            file=sys.stderr,
        )
        return 1
    wanted = [tree / "requirements.txt", ROOT / "requirements.txt"]
    stamp = hashlib.sha256("".join([*TORCH, *TEST_TOOLS, *(p.read_text() for p in wanted)]).encode()).hexdigest()
    done = FOLDER / "installed"
    if done.is_file() and done.read_text() == stamp:
        return 0
    if not python().exists():
        venv.create(FOLDER, with_pip=True)
    requirements = [argument for path in wanted for argument in ("-r", str(path))]
    subprocess.run([python(), "-m", "pip", "install", "-q", *TORCH, *TEST_TOOLS, *requirements], check=True)
    done.write_text(stamp)
    return 0


if __name__ == "__main__":
    sys.exit(main())
