"""Fixtures that several tests share."""

import importlib
import importlib.util
import os
from pathlib import Path

import pytest
import torch

# Triton decides while it is imported whether its functions run in its interpreter, and other libraries import it, too.
# Without a GPU it is of no other use here.
if not torch.cuda.is_available() and importlib.util.find_spec("triton"):
    os.environ["TRITON_INTERPRET"] = "1"
    importlib.import_module("triton.language")
    del os.environ["TRITON_INTERPRET"]

SHARED_DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real clips beside the checkout; tests that need it are skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"NO SHARED DATA: {SHARED_DATA} is not there, tests on real clips are skipped")
    return SHARED_DATA
