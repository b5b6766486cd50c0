"""A training killed at any moment loses no step that was kept, leaves nothing behind, and ends in the same bits."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_killed_trainings_end_in_the_same_bits(tmp_path):
    script = Path(__file__).with_name("killed_trainings.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, script, tmp_path / "runs", "40"]
    outcome = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert outcome.returncode == 0, outcome.stderr[-3000:]
    seen = json.loads(outcome.stdout.splitlines()[-1])
    assert seen["kills"] >= 40 and not seen["faults"] and not seen["left"], seen
