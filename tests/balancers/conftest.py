"""Certificate, servers and balancers that the tests share."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import trustme

from tests.balancers.balancers import BALANCERS, Balancer, Certificate, running
from tests.helpers import ServerProcess, running_server

AGENT = Path(__file__).with_name("agent.py")


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """A short path: a socket's has 107 bytes at most."""
    with TemporaryDirectory(prefix="se-") as path:
        yield Path(path)


@pytest.fixture(scope="session")
def certificate(folder: Path) -> Iterator[Certificate]:
    """The balancers' certificate, which the clients of this process trust meanwhile."""
    authority = trustme.CA()
    made = authority.issue_cert("127.0.0.1")
    found = Certificate(folder / "chain.pem", folder / "key.pem", folder / "both.pem")
    found.chain.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
    made.private_key_pem.write_to_path(found.key)
    made.private_key_and_cert_chain_pem.write_to_path(found.both)
    authority.cert_pem.write_to_path(folder / "ca.pem")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ssl.get_default_verify_paths().openssl_cafile_env, str(folder / "ca.pem"))
        yield found


def start_servers(stack: ExitStack, *args: str) -> tuple[ServerProcess, ServerProcess]:
    """Start servers `a` and `b`, of two workers each."""
    options = ("--path", "/ws", "--trusted-proxies", "127.0.0.1", *args)
    first, second = (
        stack.enter_context(running_server(*options, app=AGENT, env={"BALANCED_SERVER": name})) for name in "ab"
    )
    return first, second


@pytest.fixture(scope="session")
def servers() -> Iterator[tuple[ServerProcess, ServerProcess]]:
    """Two servers with the default options, as far as they matter here."""
    with ExitStack() as stack:
        yield start_servers(stack)


def skip_without(kind: type[Balancer]) -> None:
    """Skip the test, saying so, where a balancer is not installed."""
    if kind.find() is None:
        pytest.skip(f"{kind.program} is not installed: the package is {kind.package}")


@pytest.fixture(scope="session", params=BALANCERS, ids=[kind.program for kind in BALANCERS])
def kind(request: pytest.FixtureRequest) -> type[Balancer]:
    """Each of the balancers."""
    found: type[Balancer] = request.param
    skip_without(found)
    return found


@pytest.fixture(scope="session")
def balancer(
    kind: type[Balancer],
    folder: Path,
    servers: tuple[ServerProcess, ServerProcess],
    certificate: Certificate,
) -> Iterator[Balancer]:
    """The balancer in front of `servers`."""
    with (
        TemporaryDirectory(prefix="b", dir=folder) as own,
        running(kind, Path(own), (servers[0].port, servers[1].port), certificate) as found,
    ):
        yield found
