"""Builds the image and runs it with conversations up: `python -m tests.deploy.image`.

It needs root, debootstrap, buildah, podman and some minutes. With `--rootless USER` the container runs in that user's
podman, else in root's. No registry of images is asked; wheels in dist/ are used if there are any.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

from se_server.simulator.caller import Caller

ROOT = Path(__file__).resolve().parents[2]
BASE, IMAGE, NAME = "localhost/se-server-base", "localhost/se-server", "se-server-image-test"
KEY = "sk_image_test"
READY = re.compile(r"se-server ready: (ws://127\.0\.0\.1:\d+/ws)")
CONVERSATIONS = 20
DRAIN_S = 30
SEARCH_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
TOOLS = ("debootstrap", "buildah", "podman")
AGENT = """
async def on_transcript(transcript, session):
    await session.send_response("heard " + transcript[-1].content)
"""


def run(*command: str, check: bool = True, quiet: bool = False) -> str:
    """Run a command and return its output."""
    if not quiet:
        print("+", " ".join(command), flush=True)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise SystemExit(f"{command[0]} failed: {done.stdout[-1000:]}{done.stderr[-3000:]}")
    return done.stdout


class Podman:
    """The podman of a user: root's, or one without rights.

    Args:
        user: the user; an empty text is root.
        runtime: the OCI runtime.
    """

    def __init__(self, user: str = "", runtime: str = "runc") -> None:
        self._prefix = ["runuser", "-u", user, "--"] if user else []
        self._options = ["--log-level=error", "--runtime", shutil.which(runtime, path=SEARCH_PATH) or runtime]

    def __call__(self, *command: str, check: bool = True) -> str:
        """Run a command of podman and return its output."""
        return run(*self._prefix, "podman", *self._options, *command, check=check)

    def logs(self) -> str:
        """Return what the container has written."""
        return run(*self._prefix, "sh", "-c", f"podman logs {NAME} 2>&1", quiet=True)


def limits() -> list[str]:
    """Return options for limits that a root without CAP_SYS_RESOURCE may set: podman's own are higher."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return [f"--ulimit=nofile={files}:{files}", "--ulimit=nproc=4096:4096"]


def make_base(podman: Podman) -> None:
    """Make a base image of Debian with Python, unless there is one."""
    if podman("images", "-q", BASE).strip():
        return
    with tempfile.TemporaryDirectory() as folder:
        # It becomes the root of the image, which every user has to enter.
        Path(folder).chmod(0o755)
        include = "--include=python3,python3-venv,ca-certificates"
        program = shutil.which("debootstrap", path=SEARCH_PATH) or "debootstrap"
        run(program, "--variant=minbase", include, "bookworm", folder, "http://deb.debian.org/debian")
        run("sh", "-c", f"tar -C {folder} -c . | podman --log-level=error import - {BASE}")


def build(pip_conf: str) -> None:
    """Build the image."""
    mounts = [f"-v={path}:{path}:ro" for path in (pip_conf, "/etc/ssl/certs") if path and Path(path).exists()]
    arguments = [f"--build-arg=BASE={BASE}", "--build-arg=BUILD_PACKAGES=gcc libc6-dev python3-dev"]
    options = ["--log-level=error", "bud", "--format=docker", "--isolation=chroot", "--network=host"]
    ignored = f"--ignorefile={ROOT}/deploy/Dockerfile.dockerignore"
    run("buildah", *options, *mounts, *arguments, ignored, "-t", IMAGE, "-f", f"{ROOT}/deploy/Dockerfile", str(ROOT))


async def hold(podman: Podman, url: str) -> None:
    """Hold conversations over a stop of the container."""
    async with AsyncExitStack() as stack:
        callers = [await stack.enter_async_context(Caller.connect(url, api_key=KEY)) for _ in range(CONVERSATIONS)]
        for caller in callers:
            assert (await caller.say("hello")).text == "heard hello"
        podman("kill", "--signal", "TERM", NAME)
        began = time.monotonic()
        while time.monotonic() < began + 3:
            await asyncio.gather(*(caller.say("still here") for caller in callers))
        for caller in callers:
            assert (await caller.say("goodbye")).text == "heard goodbye"
    print(f"{CONVERSATIONS} conversations went on after SIGTERM, and ended when their callers left")


def main() -> None:
    """Build, run and stop the image."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--rootless", metavar="USER", default="", help="a user with subordinate ids, in whose podman it runs"
    )
    parser.add_argument("--runtime", default="runc", help="the OCI runtime")
    parser.add_argument("--pip-conf", default="/etc/pip.conf", help="pip's configuration during the build")
    given = parser.parse_args()
    missing = [tool for tool in (*TOOLS, given.runtime) if shutil.which(tool, path=SEARCH_PATH) is None]
    if missing:
        raise SystemExit(f"install {' '.join(missing)}, for example with apt-get")
    if os.geteuid() != 0:
        raise SystemExit("run it as root: debootstrap needs it")
    root, podman = Podman(runtime=given.runtime), Podman(given.rootless, given.runtime)
    make_base(root)
    build(given.pip_conf)
    sizes = {name: int(root("image", "inspect", "--format={{.Size}}", name)) for name in (BASE, IMAGE)}
    print(f"size: {(sizes[IMAGE] - sizes[BASE]) / 1e6:.0f} MB above the base")
    os.chdir("/")  # which every user may enter
    podman("rm", "-f", NAME, check=False)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        if given.rootless:
            root("save", "-o", f"{folder}/image.tar", IMAGE)
            Path(folder, "image.tar").chmod(0o644)
            podman("load", "-i", f"{folder}/image.tar")
            Path(folder, "image.tar").unlink()
        app = Path(folder) / "app.py"
        app.write_text(AGENT)
        rights = ("--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges")
        options = ("app.py", "--host=127.0.0.1", "--port=0", "--path=/ws", f"--drain-timeout-s={DRAIN_S}")
        podman(
            *("run", "-d", "--name", NAME, "--no-healthcheck", "--network=host", *rights, *limits()),
            *(f"-v={app}:/app/app.py:ro", "-e", f"ELEVENLABS_API_KEY={KEY}", IMAGE, *options, "--workers=2"),
        )
        try:
            deadline = time.monotonic() + 30
            while (ready := READY.search(log := podman.logs())) is None:
                assert time.monotonic() < deadline, log
                time.sleep(0.2)
            status = json.loads(podman("exec", NAME, "se-ctl", "status", "--json"))
            assert len(status["workers"]) == 2
            for tool in ("gcc", "cc", "pip"):
                assert not podman("exec", NAME, "sh", "-c", f"command -v {tool} || true").strip(), f"{tool} is inside"
            assert podman("exec", NAME, "id", "-u").strip() == "10001"
            denied = podman("exec", NAME, "sh", "-c", "touch /app/x /opt/agent/x /x 2>&1 || true")
            assert denied.count("Read-only file system") + denied.count("Permission denied") == 3, denied
            asyncio.run(hold(podman, ready[1]))
            assert podman("wait", NAME).strip() == "0"
        finally:
            podman("rm", "-f", NAME, check=False)
    print("the container ended with code 0")


if __name__ == "__main__":
    sys.exit(main())
