"""Access: addresses behind proxies, and a secret header."""

from __future__ import annotations

import math
import time
from ipaddress import ip_address

import pytest

from se_server.auth import TokenVerifier
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
    "a name that is none": ("10.0.0.1:5", [f"X-Forwarded-For: {CLIENT}, unknown"], "", False),
    "an empty name": ("10.0.0.1:5", [f"X-Forwarded-For: {CLIENT},"], "", False),
    "IPv6": ("[2001:db8:a::1]:5", ["X-Forwarded-For: 2001:DB8::7"], "2001:db8::7", True),
    "IPv6 with a port": ("[2001:db8:a::1]:5", ["X-Forwarded-For: [2001:db8::7]:9"], "[2001:db8::7]:9", True),
    "IPv4 in IPv6": ("[::ffff:10.0.0.1]:5", [f"X-Forwarded-For: ::ffff:{CLIENT}"], CLIENT, True),
    "a zone with text": ("10.0.0.1:5", ["X-Forwarded-For: fe80::1%\u00e9 FORGED"], "fe80::1", True),
    "Forwarded": ("10.0.0.1:5", [f"Forwarded: proto=https;For={CLIENT};by=10.0.0.1"], CLIENT, True),
    "Forwarded, quoted": ("10.0.0.1:5", ['Forwarded: for="[2001:db8::7]:9"'], "[2001:db8::7]:9", True),
    "Forwarded, several": ("10.0.0.1:5", [f'Forwarded: for=192.0.2.1, for="{CLIENT}",for=10.0.0.2'], CLIENT, True),
    "Forwarded, hidden": ("10.0.0.1:5", ["Forwarded: for=_hidden"], "", False),
    "Forwarded, without for": ("10.0.0.1:5", [f"Forwarded: for={CLIENT}, by=x"], "", False),
    "Forwarded, open quote": (
        "10.0.0.1:5",
        [f'Forwarded: for="{CLIENT}', "Forwarded: for=192.0.2.1"],
        "",
        False,
    ),
    "Forwarded, quote over two": (
        "10.0.0.1:5",
        [f'Forwarded: for={CLIENT};x="', 'Forwarded: for="[2001:db8::7]:9"'],
        "",
        False,
    ),
    "both agree": ("10.0.0.1:5", [f"Forwarded: for={CLIENT}", f"X-Forwarded-For: {CLIENT}"], CLIENT, True),
    "both disagree": ("10.0.0.1:5", ["Forwarded: for=192.0.2.1", f"X-Forwarded-For: {CLIENT}"], "", False),
    "32 names": ("10.0.0.1:5", [f"X-Forwarded-For: {CLIENT}" + ", 10.0.0.2" * 31], CLIENT, True),
    "33 names": ("10.0.0.1:5", [f"X-Forwarded-For: {CLIENT}" + ", 10.0.0.2" * 32], "", False),
    "33 names, the last a stranger's": ("10.0.0.1:5", ["X-Forwarded-For: " + "10.0.0.2," * 32 + CLIENT], "", False),
    "33 names on as many lines": ("10.0.0.1:5", ["X-Forwarded-For: 10.0.0.2"] * 33, "", False),
    "32 elements": ("10.0.0.1:5", [f"Forwarded: for={CLIENT}" + ", for=10.0.0.2;proto=https" * 31], CLIENT, True),
    "33 elements": ("10.0.0.1:5", [f"Forwarded: for={CLIENT}" + ", for=10.0.0.2" * 32], "", False),
    "an element with two clients": ("10.0.0.1:5", [f"Forwarded: for={CLIENT};for=192.0.2.1"], "", False),
    "many parameters": ("10.0.0.1:5", [f"Forwarded: for={CLIENT}" + ";a=b" * 128], "", False),
    "a long name": ("10.0.0.1:5", [f"X-Forwarded-For: {'1' * 9000}"], "", False),
    "a long zone": ("10.0.0.1:5", [f"X-Forwarded-For: fe80::1%{'x' * 9000}"], "", False),
    "a long list": ("10.0.0.1:5", [f"X-Forwarded-For: {CLIENT}{' ' * 4096},10.0.0.2"], "", False),
    "an unclosed bracket": ("10.0.0.1:5", ["X-Forwarded-For: [2001:db8::7"], "2001:db8::7", True),
}


@pytest.mark.parametrize("case", BEHIND)
def test_clients_behind_proxies(case: str) -> None:
    peer, lines, shown, known = BEHIND[case]
    client = Access(trusted_proxies=PROXIES).client_of(peer, headers(*lines))
    assert (client.text, client.address is not None) == (shown, known)
    admitted, refusal = Access(trusted_proxies=PROXIES).check(upgrade(peer, *lines))
    assert (admitted.request.remote, refusal) == (shown, None)


def costs_s(*checks: tuple[Access, list[str]]) -> list[float]:
    """Return the CPU times of 20 checks of requests with these lines, each the best of many rounds taken in turn."""
    requests = [(access, upgrade("10.0.0.1:5", *lines)) for access, lines in checks]
    best = [math.inf] * len(checks)
    for _ in range(15):
        for number, (access, request) in enumerate(requests):
            began = time.thread_time()
            for _ in range(20):
                access.check(request)
            best[number] = min(best[number], time.thread_time() - began)
    return best


LONG_LISTS = {
    "names": ["X-Forwarded-For: " + ",".join(["10.0.0.2"] * 1500)],
    "lines": ["X-Forwarded-For: " + ",".join(["10.0.0.2"] * 15)] * 95,
    "IPv6": ["X-Forwarded-For: " + ",".join(["2001:db8:a::1"] * 1000)],
    "elements": ["Forwarded: " + ",".join(['for="[2001:db8:a::1]:80"'] * 600)],
    "both": ["X-Forwarded-For: " + ",".join(["10.0.0.2"] * 800), "Forwarded: " + ",".join(["for=10.0.0.2"] * 600)],
    "parameters": ["Forwarded: " + ";".join(["a=b"] * 4000)],
    "escapes": ['Forwarded: for="' + "\\x" * 8000 + '"'],
    "open quote": ['Forwarded: for="' + "x" * 16000],
    "one name": ["X-Forwarded-For: [" + "1:" * 8000 + "]"],
    "colons": ["X-Forwarded-For: " + ":" * 16000],
}


@pytest.mark.parametrize("lines", LONG_LISTS.values(), ids=LONG_LISTS)
def test_long_lists_cost_less_than_honest_ones(lines: list[str]) -> None:
    access = Access(trusted_proxies=PROXIES, allow_ips=networks("10.0.0.0/8"))
    honest = ["X-Forwarded-For: " + ",".join(["10.0.0.2"] * 32)]
    cost_s, honest_cost_s = costs_s((access, lines), (access, honest))
    assert cost_s < 2 * honest_cost_s


def test_refused_requests_do_not_pay_for_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    getall = Headers.getall
    monkeypatch.setattr(Headers, "getall", lambda self, name: asked.append(name) or getall(self, name))
    route = next(iter(make_routes(verifier=TokenVerifier("a key"))))
    wrong_token = upgrade("10.0.0.1:5", f"X-Forwarded-For: {CLIENT}")._replace(route=route, authorization="a.b.c")
    _, refusal = Access(trusted_proxies=PROXIES).check(wrong_token)
    assert refusal is not None
    assert refusal[0] is TOKEN_REFUSED
    assert asked == []


def test_many_trusted_proxies_cost_no_more_than_few() -> None:
    many = proxies(",".join(f"10.{n // 256}.{n % 256}.0/24" for n in range(5000)))
    few = proxies("10.0.0.0/24")
    lines = ["X-Forwarded-For: " + ",".join(["10.0.0.2"] * 32)]
    many_cost_s, few_cost_s = costs_s(*((Access(trusted_proxies=trusted), lines) for trusted in (many, few)))
    assert many_cost_s < 1.5 * few_cost_s


def test_networks_hold_what_their_blocks_hold() -> None:
    found = networks("10.0.0.0/8, 10.1.2.3, 192.0.2.128/25, 2001:db8::/33, 2001:db8:8000::5, ::/128")
    for text in ("10.0.0.0", "10.255.255.255", "192.0.2.128", "2001:db8:7fff:ffff::", "2001:db8:8000::5", "::"):
        assert ip_address(text) in found
    for text in ("11.0.0.0", "9.255.255.255", "192.0.2.127", "2001:db8:8000::4", "::1", "0.0.0.0"):
        assert ip_address(text) not in found
    assert ip_address("203.0.113.9") in networks("0.0.0.0/0")
    assert ip_address("::1") not in networks("0.0.0.0/0")


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


def test_both_required_headers_are_asked_for() -> None:
    access = Access(require_header=required_header("A=1"), require_header_file=required_header("B=2"))
    assert status(access, "", "A: 1", "B: 2") == 101
    for lines in (["A: 1"], ["B: 2"], ["A: 1", "B: 3"], []):
        assert status(access, "", *lines) == 401


def test_nothing_shows_the_token_or_the_query() -> None:
    request = Request("/ws", "token=hunter2", headers("X-Secret: hunter3"), "10.0.0.1:5")
    shown = repr(Upgrade(ROUTE, request, b"key", "Bearer hunter4", b"hunter5"))
    assert "hunter" not in shown
    assert "/ws" in shown
