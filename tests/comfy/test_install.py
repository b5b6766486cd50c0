"""Installing and importing the pack as users do it."""

from __future__ import annotations

import json
import subprocess
import sys

from conftest import COMFYUI, ROOT

HEAVY = ("diffusers", "cotracker", "triton", "cv2", "kornia", "transformers", "peft")


def test_requirements_replace_nothing_that_comfyui_brought(tmp_path):
    """A dry run of pip in ComfyUI's environment: whatever it would install is not there yet, in any version."""
    report = tmp_path / "report.json"
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--dry-run",
        "--report",
        str(report),
        "-r",
        str(ROOT / "requirements.txt"),
    ]
    subprocess.run(command, check=True)
    planned = {item["metadata"]["name"].lower() for item in json.loads(report.read_text())["install"]}
    listed = json.loads(
        subprocess.run(
            [sys.executable, "-m", "pip", "list", "--format", "json"], check=True, capture_output=True
        ).stdout
    )
    present = {item["name"].lower() for item in listed}
    assert not planned & present


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=COMFYUI).stdout


IMPORT = f"""
import sys, importlib.util, asyncio, tempfile
sys.path.insert(0, {str(COMFYUI)!r})
from comfy.cli_args import args
args.cpu = True
args.base_directory = tempfile.mkdtemp()
import comfy_api.latest, comfy.sample, comfy.sd, nodes, comfy.samplers
before = set(sys.modules)
BLOCK = BLOCKED
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCK:
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Blocker())
folders = [{str(ROOT)!r}]
entry = folders[0] + "/__init__.py"
spec = importlib.util.spec_from_file_location("det_pack", entry, submodule_search_locations=folders)
module = importlib.util.module_from_spec(spec)
sys.modules["det_pack"] = module
spec.loader.exec_module(module)
async def nodes_of():
    extension = await module.comfy_entrypoint()
    await extension.on_load()
    return await extension.get_node_list()
found = asyncio.run(nodes_of())
for node in found: node.GET_SCHEMA()
print(len(found), *sorted({{m.split(".")[0] for m in set(sys.modules) - before}} & set({HEAVY!r})))
"""


def test_pack_imports_nothing_heavy():
    count, *heavy = run(IMPORT.replace("BLOCKED", "[]")).splitlines()[-1].split()
    assert int(count) >= 8 and heavy == []


def test_pack_loads_without_its_optional_libraries():
    last = run(IMPORT.replace("BLOCKED", repr(list(HEAVY)))).splitlines()[-1].split()
    assert int(last[0]) >= 8


def test_package_is_silent_outside_comfyui(tmp_path):
    """Tools that import every package they see must not be disturbed."""
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT.parent)!r}); import importlib; m = "
        f"importlib.import_module({ROOT.name!r}); print(m.WEB_DIRECTORY)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.strip() == "./nodes/web" and done.stderr == ""
