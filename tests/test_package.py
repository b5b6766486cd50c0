"""The package as a whole: det_core lives without ComfyUI, the pack imports silently outside it, versions agree."""

import ast
import inspect
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import det_core
from det_core.models.embedded.demo import DEMO_SOURCE
from det_core.models.families import FAMILIES

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


def test_starting_comfyui_needs_no_opencv():
    """What the nodes import of det_core when ComfyUI starts leaves alone what only some of them need."""
    wanted = set()
    for path in (ROOT / "nodes").rglob("*.py"):
        for statement in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(statement, ast.ImportFrom) and (statement.module or "").startswith("det_core"):
                wanted.add(statement.module)
    code = f"import importlib, sys\nfor name in {sorted(wanted)}: importlib.import_module(name)\n"
    outcome = run(code + "assert not {'cv2', 'kornia', 'matplotlib', 'sklearn'} & set(sys.modules)")
    assert len(wanted) > 20 and outcome.returncode == 0, outcome.stderr[-300:]


@pytest.mark.slow
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


PUBLIC = """
Denoiser DiffusersDenoiser MotionAdapter TemporalKernel TrainConfig TrainResult Tracks __version__ attach denoising_loss
edit_fidelity kept_blocks leakage load_base_model motion_fidelity sample sample_query_points spec_for
temporal_consistency track tracking_loss train_motion_adapter
""".split()


def test_the_public_names_are_these_and_each_is_there():
    assert sorted(det_core.__all__) == sorted(PUBLIC)
    for name in PUBLIC:
        assert getattr(det_core, name) is not None
    page = (ROOT / "docs/develop/python.md").read_text()
    assert all(f"`{name}" in page for name in PUBLIC if name != "__version__")
    typed = next(node for node in ast.parse(inspect.getsource(det_core)).body if isinstance(node, ast.If))
    assert {alias.name for line in typed.body for alias in line.names} == set(PUBLIC) - {"__version__"}
    with pytest.raises(AttributeError, match="no public name 'Denoser'"):
        det_core.Denoser  # noqa: B018


def test_importing_it_costs_nothing():
    outcome = run("import sys, det_core; assert 'torch' not in sys.modules; assert 'Tracks' in dir(det_core)")
    assert outcome.returncode == 0, outcome.stderr


@pytest.mark.slow
def test_the_page_for_researchers_runs(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/develop/python.md").read_text(), re.DOTALL)
    (tmp_path / "source.mp4").write_bytes(DEMO_SOURCE.read_bytes())
    quick = code.replace("steps=20", "steps=2").replace("steps=4", "steps=1")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    outcome = subprocess.run(
        [sys.executable, "-c", quick], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert outcome.returncode == 0, outcome.stderr
    assert -1 <= float(outcome.stdout) <= 1
    assert (tmp_path / "motion.safetensors").stat().st_size > 10_000


LINES = 300  # of a file
SCREEN = 60  # lines of a function, its arguments aside: a node's are its schema
TABLES = {"small_models.py"}  # files of data


def _functions(tree: ast.Module) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]


@pytest.mark.parametrize("folder", ["det_core", "nodes", "tests", "workflows"])
def test_files_and_functions_are_small(folder):
    """One idea a file, one screen a function."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= LINES or path.name in TABLES, f"{path} is longer than {LINES} lines: split it"
        for function in _functions(ast.parse(text)):
            length = function.end_lineno - function.body[0].lineno + 1
            assert length <= SCREEN or function.name == "define_schema", f"{path}: {function.name} has {length} lines"


@pytest.mark.slow
def test_a_wheel_is_built_and_works_in_an_empty_folder(tmp_path):
    sources = tmp_path / "sources"
    shutil.copytree(ROOT / "det_core", sources / "det_core", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "requirements.txt", "requirements-bench.txt", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, sources)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    wheel = [*pip, "wheel", str(sources), "--no-deps", "--no-build-isolation", "-q", "-w", str(tmp_path)]
    assert subprocess.run(wheel, capture_output=True).returncode == 0
    (built,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(built).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"det_core"}
    assert "det_core/bench/report.html.j2" in names
    entries, about = (next(name for name in names if name.endswith(end)) for end in ("entry_points.txt", "METADATA"))
    assert re.search(r"Requires-Dist: scikit-learn.*extra == .bench", zipfile.ZipFile(built).read(about).decode())
    assert "det-motion = det_core.cli.main:main" in zipfile.ZipFile(built).read(entries).decode()
    installed = tmp_path / "installed"
    subprocess.run([*pip, "install", "--no-deps", "-q", "--target", installed, built], check=True, capture_output=True)
    code = "import det_core; print(det_core.__file__, det_core.load_base_model('embedded').denoiser.spec.describe())"
    outcome = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
    )
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout.decode().startswith(str(installed)) and b"embedded with 8 blocks" in outcome.stdout


def _modules(*folders: str) -> dict[str, ast.Module]:
    """The files of `folders` by their path from the root, parsed."""
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def test_a_base_models_name_decides_only_in_its_room():
    """Elsewhere nothing is compared with the name of a family, and no table has it as a key."""
    families, seen = set(FAMILIES), 0
    for path, tree in _modules("det_core", "nodes").items():
        seen += 1
        if path.startswith("det_core/models/families/"):
            continue
        for node in ast.walk(tree):
            sides = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
            keys = node.keys if isinstance(node, ast.Dict) else []
            for part in [inner for side in [*sides, *keys] if side for inner in ast.walk(side)]:
                named = isinstance(part, ast.Constant) and part.value in families
                assert not named, f"{path}:{part.lineno} decides by the name {part.value!r}: ask its `Family`"
    assert seen > 200


FORMATS = (  # where bfloat16 is named: it is decided in the first, the others read, hold or write tensors of it
    "det_core/models/compute/precision.py",
    "det_core/kernels/temporal_conv.py",
    "det_core/models/embedded/train.py",
    "det_core/models/embedded/world/train.py",
    "nodes/_comfy/loading/",
    "nodes/_comfy/training/fingerprint.py",  # of weights that ComfyUI rounds
)


def test_number_format_and_device_are_decided_in_one_place():
    for path, tree in _modules("det_core", "nodes").items():
        for node in ast.walk(tree):
            name = node.attr if isinstance(node, ast.Attribute) else ""
            assert name != "bfloat16" or path.startswith(FORMATS), f"{path}:{node.lineno} decides on bfloat16"
            listed = path in (FORMATS[0], "det_core/cli/arguments.py")  # decides; lists what there is
            assert name != "is_available" or listed, f"{path}:{node.lineno} decides on a device"


def test_each_floor_imports_only_from_below():
    """The layers of pyproject.toml; `lint-imports` says which import breaks them."""
    outcome = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-logo"], cwd=ROOT, capture_output=True
    )
    assert outcome.returncode == 0, outcome.stdout.decode()[-3000:]
