"""Access: addresses behind proxies, and a secret header."""

from __future__ import annotations

import pytest

from se_server.server.door.access import Access, Client, Networks, RequiredHeader, networks, proxies, required_header
from se_server.server.door.handshake import Upgrade
from se_server.server.door.responses import TOKEN_REFUSED
from se_server.types import Headers, Request
from tests.doors import make_routes

PROXIES = proxies("10.0.0.0/8, 2001:db8:a::/48, unix")
ROUTE = next(iter(make_routes()))
SECRET = "correct horse battery staple"


def headers(*lines: str) -> Headers:
    pairs = (line.encode("latin-1").partition(b":") for line in lines)
    return Headers.of([(name, value) for name, _, value in pairs])


def upgrade(peer: str, *lines: str) -> Upgrade:
    return Upgrade(ROUTE, Request("/ws", "", headers(*lines), peer), b"key", None, b"")


def status(access: Access, peer: str, *lines: str) -> int:
    _, refusal = access.check(upgrade(peer, *lines))
    return 101 if refusal is None else refusal[0].status


CLIENT = "198.51.100.7"

# peer, headers, what session.remote shows, whether the address is known
BEHIND: dict[str, tuple[str, list[str], str, bool]] = {
    "no header": ("10.0.0.1:5", [], "10.0.0.1:5", True),
    "a stranger's header": ("203.0.113.1:5", [f"X-Forwarded-For: {CLIENT}"], "203.0.113.1:5", True),
    "one proxy": ("10.0.0.1:5", [f"X-Forwarded-For: {CLIENT}"], CLIENT, True),
    "any case": ("10.0.0.1:5", [f"x-forwarded-FOR: {CLIENT}"], CLIENT, True),
    "with a port": ("10.0.0.1:5", [f"X-Forwarded-For: {CLIENT}:99"], f"{CLIENT}:99", True),
    "invented names": ("10.0.0.1:5", [f"X-Forwarded-For: 192.0.2.1, 10.9.9.9, {CLIENT}"], CLIENT, True),
    "two proxies": ("10.0.0.1:5", [f"X-Forwarded-For: 192.0.2.1, {CLIENT}, 10.0.0.2"], CLIENT, True),
    "two lines": ("10.0.0.1:5", ["X-Forwarded-For: 192.0.2.1", f"X-Forwarded-For: {CLIENT}"], CLIENT, True),
    "proxies only": ("10.0.0.1:5", ["X-Forwarded-For: 10.0.0.3, 10.0.0.2"], "10.0.0.3", True),
    "over a Unix socket": ("", [f"X-Forwarded-For: {CLIENT}"], CLIENT, True),
    "Unix socket, no header": ("", [], "", False),
    "a name that is none": ("10.0.0.1:5", [f"X-Forwarded-For: {CLIENT}, unknown"], "10.0.0.1:5", False),
    "an empty name": ("10.0.0.1:5", [f"X-Forwarded-For: {CLIENT},"], "10.0.0.1:5", False),
    "IPv6": ("[2001:db8:a::1]:5", ["X-Forwarded-For: 2001:DB8::7"], "2001:db8::7", True),
    "IPv6 with a port": ("[2001:db8:a::1]:5", ["X-Forwarded-For: [2001:db8::7]:9"], "[2001:db8::7]:9", True),
    "IPv4 in IPv6": ("[::ffff:10.0.0.1]:5", [f"X-Forwarded-For: ::ffff:{CLIENT}"], CLIENT, True),
    "a zone with text": ("10.0.0.1:5", ["X-Forwarded-For: fe80::1%\u00e9 FORGED"], "fe80::1", True),
    "Forwarded": ("10.0.0.1:5", [f"Forwarded: proto=https;For={CLIENT};by=10.0.0.1"], CLIENT, True),
    "Forwarded, quoted": ("10.0.0.1:5", ['Forwarded: for="[2001:db8::7]:9"'], "[2001:db8::7]:9", True),
    "Forwarded, several": ("10.0.0.1:5", [f'Forwarded: for=192.0.2.1, for="{CLIENT}",for=10.0.0.2'], CLIENT, True),
    "Forwarded, hidden": ("10.0.0.1:5", ["Forwarded: for=_hidden"], "10.0.0.1:5", False),
    "Forwarded, without for": ("10.0.0.1:5", [f"Forwarded: for={CLIENT}, by=x"], "10.0.0.1:5", False),
    "Forwarded, open quote": (
        "10.0.0.1:5",
        [f'Forwarded: for="{CLIENT}', "Forwarded: for=192.0.2.1"],
        "10.0.0.1:5",
        False,
    ),
    "Forwarded, quote over two": (
        "10.0.0.1:5",
        [f'Forwarded: for={CLIENT};x="', 'Forwarded: for="[2001:db8::7]:9"'],
        "10.0.0.1:5",
        False,
    ),
    "both agree": ("10.0.0.1:5", [f"Forwarded: for={CLIENT}", f"X-Forwarded-For: {CLIENT}"], CLIENT, True),
    "both disagree": ("10.0.0.1:5", ["Forwarded: for=192.0.2.1", f"X-Forwarded-For: {CLIENT}"], "10.0.0.1:5", False),
}


@pytest.mark.parametrize("case", BEHIND)
def test_clients_behind_proxies(case: str) -> None:
    peer, lines, shown, known = BEHIND[case]
    client = Access(trusted_proxies=PROXIES).client_of(peer, headers(*lines))
    assert (client.text, client.address is not None) == (shown, known)
    admitted, refusal = Access(trusted_proxies=PROXIES).check(upgrade(peer, *lines))
    assert (admitted.request.remote, refusal) == (shown, None)


def test_without_trusted_proxies_nobody_is_believed() -> None:
    assert Access().client_of("10.0.0.1:5", headers(f"X-Forwarded-For: {CLIENT}")).text == "10.0.0.1:5"
    assert Access().client_of("", headers(f"X-Forwarded-For: {CLIENT}")) == Client(None, "")


def test_allow_ips_checks_the_client_behind_the_proxy() -> None:
    access = Access(allow_ips=networks("198.51.100.0/24,2001:db8::7"), trusted_proxies=PROXIES)
    assert status(access, f"{CLIENT}:5") == 101
    assert status(access, "[2001:db8::7]:5") == 101
    assert status(access, "[2001:db8::8]:5") == 403
    assert status(access, "10.0.0.1:5") == 403
    assert status(access, "") == 403
    assert status(access, "10.0.0.1:5", f"X-Forwarded-For: {CLIENT}") == 101
    assert status(access, "10.0.0.1:5", f"X-Forwarded-For: {CLIENT}, 192.0.2.1") == 403
    assert status(access, "10.0.0.1:5", "Forwarded: for=192.0.2.1", f"X-Forwarded-For: {CLIENT}") == 403
    # Known proxies among the allowed: what they do not tell is not let in in their name.
    proxies = Access(allow_ips=networks("10.0.0.0/8"), trusted_proxies=PROXIES)
    assert status(proxies, "10.0.0.1:5", "X-Forwarded-For: unknown") == 403


def test_required_header() -> None:
    access = Access(require_header=required_header(f"X-Secret={SECRET}=="))
    assert status(access, "", f"x-SECRET:  {SECRET}== ") == 101
    for lines in (
        [],
        ["X-Secret:"],
        [f"X-Secret: {SECRET}"],
        [f"X-Secret: {SECRET}==", "X-Secret: other"],
        ["X-Secret: other", f"X-Secret: {SECRET}=="],
        ["X-Secret: \u00e9\u00ff"],
    ):
        _, refusal = access.check(upgrade("", *lines))
        assert refusal is not None
        answer, detail = refusal
        assert (answer.status, answer.data) == (401, TOKEN_REFUSED.data)
        assert SECRET not in detail + answer.reason
    assert SECRET not in repr(access)
    assert repr(access.require_header) == "RequiredHeader(X-Secret)"


def test_options_are_read() -> None:
    assert repr(networks(["10.0.0.0/8", "::1, 192.0.2.1"])) == "10.0.0.0/8,::1/128,192.0.2.1/32"
    assert proxies("unix") == Networks(unix=True)
    assert repr(proxies("unix,10.0.0.1")) == "10.0.0.1/32,unix"
    assert required_header("A = b=c") == RequiredHeader("A", b"b=c")


@pytest.mark.parametrize("raw", ["", ",", "10.0.0.1/8", "example.org", "10.0.0.0/33", 10, ["10.0.0.1", 5], "unix"])
def test_wrong_addresses_are_refused(raw: object) -> None:
    with pytest.raises(ValueError, match="addresses or blocks"):
        networks(raw)
    if raw != "unix":
        with pytest.raises(ValueError, match="addresses or blocks"):
            proxies(raw)


@pytest.mark.parametrize("raw", ["", "X-Secret", "X-Secret=", "=x", "X Secret=x", "X:=x", "X=a\nb", "X=\u00e9", 5])
def test_wrong_headers_are_refused(raw: object) -> None:
    with pytest.raises(ValueError, match="NAME=VALUE"):
        required_header(raw)
