"""Servers of exported models, and a browser for their page."""

import socket
import subprocess
import sys
import time
from dataclasses import dataclass

import requests

from mtdnn_tf.serving.client import Client


@dataclass
class Served:
    """A server process and where it listens."""

    process: subprocess.Popen
    grpc: str
    rest: str
    codes: list[int]  # That REST answered with until the model was there.

    def client(self, transport="grpc", model="tiny", **kwargs):
        return Client(getattr(self, transport), model, **kwargs)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def start(command, log):
    """Starts a server of the model `tiny` on free ports and waits until it answers."""
    ports = free_port(), free_port()
    flags = [f"--port={ports[0]}", f"--rest_api_port={ports[1]}"]
    with log.open("w") as output:
        process = subprocess.Popen([*command, *flags], stdout=output, stderr=output)
    served = Served(process, f"127.0.0.1:{ports[0]}", f"http://127.0.0.1:{ports[1]}", [])
    for _ in range(2400):
        assert process.poll() is None, log.read_text()
        try:
            answer = requests.get(f"{served.rest}/v1/models/tiny", timeout=60)
            served.codes.append(answer.status_code)
            answer.raise_for_status()
        except requests.RequestException:
            time.sleep(0.05)
        else:
            return served
    process.kill()
    process.wait()
    raise AssertionError(log.read_text())


LOCAL = [sys.executable, "-m", "mtdnn_tf.binaries.serve"]


# Chromium talks to its maker unless it is told not to.
# Flags of Chromium.
QUIET = (
    "headless=new no-sandbox disable-gpu no-first-run disable-background-networking "
    "disable-component-update disable-sync"
)
