"""A throwaway certificate for 127.0.0.1, for the targets that speak TLS, made once.

Python clients trust it with `SSL_CERT_FILE` set to `CA`.
"""

from __future__ import annotations

from pathlib import Path

from bench.load.targets.making import make, need_packages, place

__all__ = ["CA", "CHAIN", "KEY", "make_certificate"]

_FOLDER = place("certificate", "127.0.0.1, PKCS #8")
CHAIN, KEY, CA = _FOLDER / "chain.pem", _FOLDER / "key.pem", _FOLDER / "ca.pem"
"""PEM files; the key is in PKCS #8, the only form that all targets read."""


def make_certificate() -> None:
    """Make the files unless they are there.

    Raises:
        BenchError: trustme is not installed.
    """
    need_packages("trustme")
    make(_FOLDER, _fill)


def _fill(folder: Path) -> None:
    import trustme
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        load_pem_private_key,
    )

    ca = trustme.CA()
    issued = ca.issue_cert("127.0.0.1", "localhost")
    key = load_pem_private_key(issued.private_key_pem.bytes(), password=None)
    (folder / KEY.name).touch(mode=0o600)
    (folder / KEY.name).write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (folder / CHAIN.name).write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    ca.cert_pem.write_to_path(str(folder / CA.name))
