"""The example of docs/use/comfyui.md runs as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys

from conftest import ROOT
from demo_adapter import write_demo_adapter


def test_the_http_client_of_the_docs(server, tmp_path):
    """With the workflow that needs no training, so that it is quick."""
    page = (ROOT / "docs/use/comfyui.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    example = code.replace("127.0.0.1:8188", server.url.removeprefix("http://"))
    example = example.replace("workflows/api/transfer_embedded.json", str(ROOT / "workflows/api/reuse_adapter.json"))
    assert example.count(str(ROOT)) == 1
    write_demo_adapter(server.base / "models" / "det_adapters")
    done = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "20 of 20" in done.stdout
    (video,) = tmp_path.glob("*.mp4")
    assert video.stat().st_size > 1000
