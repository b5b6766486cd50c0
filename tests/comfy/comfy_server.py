"""A real ComfyUI server for the tests, on a free loopback port, over a base directory of its own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import BinaryIO

PACK = "ComfyUI-DeT"
START_SECONDS = 240


class PromptError(AssertionError):
    """A prompt was refused or failed; `node` and `message` are those of the first error."""

    def __init__(self, message: str, node: str | None = None):
        super().__init__(message)
        self.message, self.node = message, node


class ComfyServer:
    def __init__(self, comfyui: Path, pack: Path, base: Path, *arguments: str):
        """base: becomes the server's folder of models, inputs and outputs; the pack is linked into its custom_nodes.
        arguments: further ones of ComfyUI's command line."""
        self.comfyui, self.base, self.arguments = comfyui, base, arguments
        self.log_file = base / "server.log"
        self.client = uuid.uuid4().hex
        for folder in (
            "custom_nodes",
            "input",
            "output",
            "models/diffusion_models",
            "models/diffusers",
            "models/det_adapters",
        ):
            (base / folder).mkdir(parents=True, exist_ok=True)
        link = base / "custom_nodes" / PACK
        if not link.exists():
            link.symlink_to(pack, target_is_directory=True)
        stand_ins = base / "custom_nodes" / "stand_ins"
        stand_ins.mkdir(exist_ok=True)
        shutil.copy(Path(__file__).with_name("stand_ins.py"), stand_ins / "__init__.py")
        self.process: subprocess.Popen | None = None

    def start(self) -> ComfyServer:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        command = [
            sys.executable,
            "main.py",
            "--cpu",
            "--listen",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--base-directory",
            str(self.base),
            "--database-url",
            f"sqlite:///{self.base}/comfyui.db",
            "--disable-auto-launch",
            "--verbose",
            "DEBUG",
            *self.arguments,
        ]
        with open(self.log_file, "ab") as log:
            self.process = self.launch(command, log)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"ComfyUI ended while starting:\n{self.log()[-3000:]}")
            try:
                self.get("/system_stats")
                return self
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.5)
        raise RuntimeError(f"ComfyUI did not answer in {START_SECONDS} s:\n{self.log()[-3000:]}")

    def launch(self, command: list[str], log: BinaryIO) -> subprocess.Popen:
        return subprocess.Popen(command, cwd=self.comfyui, stdout=log, stderr=subprocess.STDOUT)

    def stop(self, *, kill: bool = False) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill() if kill else self.process.terminate()
            self.process.wait(30)
        self.process = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def rss_mb(self) -> float:
        """Resident memory of the server process."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def get(self, path: str, *, raw: bool = False):
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            body = answer.read()
        return body if raw else json.loads(body)

    def post(self, path: str, body: dict | None = None):
        request = urllib.request.Request(
            self.url + path, json.dumps(body or {}).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            raise PromptError(f"HTTP {error.code}: {error.read().decode(errors='replace')}") from None
        return json.loads(text) if text.strip().startswith(b"{") else None

    def queue(self, graph: dict) -> str:
        """Post an API-format graph; returns its prompt id. Raises PromptError if validation refuses it."""
        answer = self.post("/prompt", {"prompt": graph, "client_id": self.client})
        if answer.get("node_errors"):
            raise PromptError(json.dumps(answer["node_errors"]))
        return answer["prompt_id"]

    def wait(self, prompt_id: str, timeout: float = 600) -> dict:
        """Outputs of a finished prompt, {node id: ui}. Raises PromptError with the node's message if it failed."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            history = self.get(f"/history/{prompt_id}")
            if prompt_id in history:
                entry = history[prompt_id]
                for kind, detail in entry["status"]["messages"]:
                    if kind == "execution_error":
                        raise PromptError(detail["exception_message"].strip(), detail["node_type"])
                    if kind == "execution_interrupted":
                        raise PromptError("interrupted", detail["node_type"])
                return entry["outputs"]
            if self.process.poll() is not None:
                raise RuntimeError(f"the server died:\n{self.log()[-3000:]}")
            time.sleep(0.1)
        raise TimeoutError(f"prompt {prompt_id} did not finish in {timeout} s:\n{self.log()[-3000:]}")

    def run(self, graph: dict, timeout: float = 600) -> dict:
        return self.wait(self.queue(graph), timeout)

    def free(self) -> None:
        """Forget models and cached outputs, so that the same graph runs again. Asked for twice: while it tidies up
        after a prompt, ComfyUI hears nobody, and does what it was asked only after the next prompt."""
        for _ in range(2):
            self.post("/free", {"unload_models": True, "free_memory": True})
            time.sleep(1)

    def file(self, result: dict) -> Path:
        """The file behind one entry of an output's ui."""
        folder = self.base / {"output": "output", "temp": "temp", "input": "input"}[result["type"]]
        return folder / result.get("subfolder", "") / result["filename"]
