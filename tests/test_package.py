"""The package as a whole: det_core lives without ComfyUI, the pack imports silently outside it, versions agree."""

import subprocess
import sys
from pathlib import Path

import det_core

ROOT = Path(__file__).resolve().parents[1]

IMPORT_ALL = """
import importlib, pkgutil, sys
for name in ("comfy", "comfy_api", "comfy_extras", "folder_paths", "nodes", "server"):
    sys.modules[name] = None  # importing it raises ImportError
import det_core
for module in pkgutil.walk_packages(det_core.__path__, "det_core."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""

IMPORT_PACK = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("pack", "__init__.py", submodule_search_locations=["."])
module = importlib.util.module_from_spec(spec)
sys.modules["pack"] = module
spec.loader.exec_module(module)
assert not {"torch", "diffusers", "cv2", "kornia"} & set(sys.modules), "the pack must import nothing heavy"
"""


def run(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)


def test_det_core_is_comfy_free():
    outcome = run(IMPORT_ALL)
    assert outcome.returncode == 0, outcome.stderr


def test_the_pack_imports_silently_outside_comfyui():
    outcome = run(IMPORT_PACK)
    assert (outcome.returncode, outcome.stdout, outcome.stderr) == (0, "", "")


def test_versions_agree_and_requirements_pin_nothing():
    assert f'version = "{det_core.__version__}"' in (ROOT / "pyproject.toml").read_text()
    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert all(">=" in line and "==" not in line and "<" not in line for line in lines)
    assert not {line.split(">")[0] for line in lines} & {"torch", "torchvision", "torchaudio", "numpy", "cotracker"}
