"""Run groups of units on an existing Ray cluster (https://www.ray.io). The folders must be the same on every machine.

A group is one Ray task. A task whose worker dies is started again by Ray; units it had already finished are on the disk
and are passed over, so nothing is lost and nothing is counted twice.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from .units import Group, RunUnit, work

log = logging.getLogger(__name__)

CONNECT_S = 5.0  # seconds an address has to answer in
SETTINGS = 4  # the type of HTTP/2's first frame; Ray speaks gRPC, which is HTTP/2
HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, SETTINGS, 0, 0, 0, 0, 0])
WORKER_LIVES = 5  # times a group may lose its worker before it is given up


def run_groups(
    groups: Sequence[Group], out: Path, build: Callable[[], RunUnit], address: str, on_gpus: bool = False
) -> None:
    """Run every group as one task of the cluster at `address` and wait for all of them.

    on_gpus: a task takes a GPU where any machine of the cluster has one; this machine need not.

    Groups that fail as a whole (their worker died too often, the model could not be loaded) are logged; their units
    stay open for the next run.

    Raises: ValueError if Ray is not installed or does not answer at `address`.
    """
    check_reachable(address)
    try:
        import ray
    except ImportError as error:
        raise ValueError("--ray needs Ray: pip install 'ray[default]'") from error
    started_here = not ray.is_initialized()
    if started_here:
        search_path = os.pathsep.join(p for p in [os.getcwd(), *sys.path] if p)
        try:
            ray.init(address=address, runtime_env={"env_vars": {"PYTHONPATH": search_path}}, log_to_driver=False)
        except (ConnectionError, RuntimeError) as error:
            raise ValueError(f"no Ray cluster at {address}: {str(error).splitlines()[0]}") from error
    gpus = int(on_gpus and ray.cluster_resources().get("GPU", 0) >= 1)
    task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=WORKER_LIVES)(work)
    shared = ray.put(build)
    pending = {task.remote(group, str(Path(out).resolve()), shared): group for group in groups}
    try:
        while pending:
            finished, _ = ray.wait(list(pending), num_returns=1)
            group = pending.pop(finished[0])
            unit = group[0]
            try:
                ray.get(finished[0])
                log.info("%s, %s, seed %d; %d groups left", unit.case.name, unit.method, unit.seed, len(pending))
            except ray.exceptions.RayError as error:
                reason = str(error).strip().splitlines()[-1]
                log.error("%s, %s, seed %d: not finished: %s", unit.case.name, unit.method, unit.seed, reason)
    finally:
        if started_here:
            ray.shutdown()


def check_reachable(address: str) -> None:
    """Raise ValueError within seconds where Ray itself would try for minutes: nobody there, or who is not Ray."""
    place = address.removeprefix("ray://")
    if place == "auto":
        return
    host, _, port = place.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"--ray {address} is no address: give host:port, ray://host:port or auto")
    try:
        with socket.create_connection((host, int(port)), timeout=CONNECT_S) as connection:
            if os.environ.get("RAY_USE_TLS", "0") == "0":
                connection.sendall(HELLO)
                answer = connection.recv(9)
                if len(answer) < 4 or answer[3] != SETTINGS:
                    raise ValueError(
                        f"what answers at {address} is no Ray cluster: give the address `ray start` printed"
                    )
    except OSError as error:
        raise ValueError(f"nothing answers at the Ray address {address}: {error.strerror or error}") from error
