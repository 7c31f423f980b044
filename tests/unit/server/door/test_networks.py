"""Lists of addresses in files: `--allow-ips @FILE`."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest

from se_server.server.door.networks import networks, proxies

LIST = """\
# the addresses of the API
203.0.113.0/24
2001:db8::/32, 198.51.100.7   # two on one line

192.0.2.1
"""


def test_a_file_holds_addresses_and_comments(tmp_path: Path) -> None:
    file = tmp_path / "allowed"
    file.write_text(LIST)
    found = networks(f"@{file},10.0.0.1")
    assert repr(found) == "203.0.113.0/24,2001:db8::/32,198.51.100.7/32,192.0.2.1/32,10.0.0.1/32"
    assert ip_address("198.51.100.7") in found
    assert repr(proxies([f"@{file}", "unix"])).endswith("192.0.2.1/32,unix")


@pytest.mark.parametrize("content", ["", "\n\n", "# nothing\n", " , \n"])
def test_a_file_without_addresses_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "allowed"
    file.write_text(content)
    with pytest.raises(ValueError, match="has none"):
        networks(f"@{file}")


@pytest.mark.parametrize("content", [b"10.0.0.1\nexample.org\n", b"10.0.0.1/8\n", b"\xff\xfe", b"@/etc/hosts\n"])
def test_a_wrong_file_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "allowed"
    file.write_bytes(content)
    with pytest.raises(ValueError, match="addresses or blocks"):
        networks(f"@{file}")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="none: No such file"):
        networks(f"@{tmp_path}/none")
