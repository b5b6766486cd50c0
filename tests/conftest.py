"""Fixtures that several tests share."""

import importlib
import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

# Triton decides while it is imported whether its functions run in its interpreter, and other libraries import it, too.
# Without a GPU it is of no other use here.
if not torch.cuda.is_available() and importlib.util.find_spec("triton"):
    os.environ["TRITON_INTERPRET"] = "1"
    importlib.import_module("triton.language")
    del os.environ["TRITON_INTERPRET"]

import field_job  # noqa: E402
import small_training  # noqa: E402

LEFT_OUT = pytest.StashKey[int]()
SHARED_DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real clips beside the checkout; tests that need it are skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"NO SHARED DATA: {SHARED_DATA} is not there, tests on real clips are skipped")
    return SHARED_DATA


@pytest.fixture
def denoiser():
    """A model to train on; with `job`, what the training tests share."""
    return small_training.random_denoiser()


@pytest.fixture
def job():
    """What is learned from: latents, condition, tracks."""
    return small_training.random_clip()


@pytest.fixture
def lagging(monkeypatch):
    """Numbers are read a step late, as on a GPU."""
    from det_core.training import loop as train

    made = train.TrainingRun
    monkeypatch.setattr(train, "TrainingRun", lambda *args, lag: made(*args, lag=1))


@pytest.fixture(scope="session")
def field(tmp_path_factory) -> Path:
    """A folder with a clip as users have them: see `write_field`."""
    return field_job.write_field(tmp_path_factory.mktemp("field"))


@pytest.fixture
def no_cotracker(monkeypatch, tmp_path):
    """Whatever this machine has installed, a test meets the CoTracker it made itself, or none."""
    for name in ("COTRACKER_PATH", "COTRACKER_WEIGHTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "no hub"))
    _forget_cotracker()
    yield
    _forget_cotracker()


def _forget_cotracker() -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "cotracker"]:
        del sys.modules[name]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """Where a test draws without a generator of its own, it draws the same alone, in any order and in any process."""
    torch.manual_seed(0)
    np.random.seed(0)


def pytest_collection_modifyitems(config, items):
    """Tests marked `slow` run where `-m` asks for them (`make test-slow`, and CI)."""
    if config.option.markexpr:
        return
    left_out = [item for item in items if item.get_closest_marker("slow")]
    config.stash[LEFT_OUT] = len(left_out)
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in set(left_out)]


def pytest_sessionfinish(session):
    """Of several processes (`make test` has two) each tells the one that reports."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = session.config.stash.get(LEFT_OUT, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    node.config.stash[LEFT_OUT] = getattr(node, "workeroutput", {}).get("left_out", 0)


def pytest_terminal_summary(terminalreporter, config):
    """The last lines say what was not run."""
    if config.stash.get(LEFT_OUT, 0):
        terminalreporter.write_line(f"NOT RUN: {config.stash[LEFT_OUT]} slow tests; `make test-slow` runs them")
    if skipped := len(terminalreporter.stats.get("skipped", [])):
        terminalreporter.write_line(f"NOT RUN: {skipped} skipped tests, for the reasons above")
    if not config.args_source.name.startswith("ARGS"):
        terminalreporter.write_line("NOT RUN: tests/comfy, against a real ComfyUI; `make test-comfyui` runs them")


@pytest.fixture
def idle(monkeypatch):
    """Whatever loads a model or tracks before it refuses fails the test."""

    def worked(*_args, **_kwargs):
        raise AssertionError("work was done before this was refused")

    for module in ("transfer", "train", "sample"):
        monkeypatch.setattr(f"det_core.cli.{module}.load_base_model", worked)
    monkeypatch.setattr("det_core.source.track_subject", worked)
