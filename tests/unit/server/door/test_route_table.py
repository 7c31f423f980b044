"""The table of routes: docs/routes.md as written, ties, and hostile paths."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from se_server.conversation.handlers import Handlers
from se_server.errors import ConfigError
from se_server.server.config.config import Config, load_config
from se_server.server.door.patterns import MAX_SEGMENTS, MAX_VALUE_CHARS, Pattern
from se_server.server.door.route_table import DoorRoute, RouteTable

PAGE = (Path(__file__).parents[4] / "docs/routes.md").read_text()
FILE = re.search(r"```toml\n(.*?)```", PAGE, re.DOTALL)
ROWS = re.findall(r"^\| `(\S+)` \| `(\S+)` \| `?([^`|]+?)`? \|([^|]*)\|$", PAGE, re.MULTILINE)


def table_of(*paths: str | None, host: str | None = None) -> RouteTable:
    return RouteTable([DoorRoute(path, None, Handlers(), host=host) for path in paths])


def found(table: RouteTable, path: str, host: str = "") -> tuple[str, dict[str, str]] | None:
    match = table.find(path, host.encode())
    return None if match is None else (str(match[0]), dict(match[1] or {}))


@pytest.fixture(scope="module")
def documented(tmp_path_factory: pytest.TempPathFactory) -> Config:
    folder = tmp_path_factory.mktemp("routes")
    assert FILE is not None
    text = FILE[1]
    for name in ("sales.keys", "tenants.keys"):
        (folder / name).write_text("sk_test\n")
        text = text.replace(name, str(folder / name))
    (folder / "se.toml").write_text(text)
    return load_config({"config": str(folder / "se.toml")}, {})


def test_the_page_has_its_table() -> None:
    assert len(ROWS) >= 20


@pytest.mark.parametrize(("host", "path", "route", "params"), ROWS, ids=[f"{row[0]}{row[1]}" for row in ROWS])
def test_requests_get_the_documented_route(host: str, path: str, route: str, params: str, documented: Config) -> None:
    table = RouteTable(
        [DoorRoute(each.route.path, None, Handlers(), name=each.name, host=each.host) for each in documented.routes]
    )
    values = dict(re.findall(r"(\w+)=(\S+)", params))
    assert found(table, path, host) == (None if route.strip() == "404" else (route, values))


def test_options_of_a_route_add_to_the_servers(documented: Config) -> None:
    assert [each.session.turn_timeout_s for each in documented.routes][:3] == [30, 10, 30]
    assert documented.routes[1].session.failure_text == "Sorry, please say that again."


def test_the_playground_speaks_with_an_exact_path(documented: Config) -> None:
    assert documented.of_playground().route.path == "/sales"
    templates = replace(documented, routes=documented.routes[1:2])
    with pytest.raises(ConfigError, match="has none"):
        templates.of_playground()


@pytest.mark.parametrize(
    "paths",
    [
        ["/ws", "/ws"],
        ["/ws/*", "/ws/*"],
        ["/{a}", "/{b}"],
        ["/{tenant}/admin", "/acme/{page}"],
        ["/a/{x}/c", "/{y}/b/c"],
        ["/*", None],
        ["/*", "/*"],
    ],
)
def test_routes_that_tie_are_named(paths: Sequence[str | None]) -> None:
    with pytest.raises(ConfigError) as error:
        table_of(*paths)
    assert str(paths[0]) in str(error.value)


def test_a_tie_shows_a_path_of_both() -> None:
    with pytest.raises(ConfigError, match=r"tie: both match /acme/admin with as many"):
        table_of("/{tenant}/admin", "/acme/{page}")


def test_more_literal_segments_win() -> None:
    table = table_of("/{a}/{b}/{c}", "/{a}/x/{c}", "/{a}/x/y", "/w/*", "/w/x/*")
    assert found(table, "/1/2/3") == ("/{a}/{b}/{c}", {"a": "1", "b": "2", "c": "3"})
    assert found(table, "/1/x/3") == ("/{a}/x/{c}", {"a": "1", "c": "3"})
    assert found(table, "/1/x/y") == ("/{a}/x/y", {"a": "1"})
    assert found(table, "/w/x/y/z") == ("/w/x/*", {})
    assert found(table, "/w/2/y/z") == ("/w/*", {})


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("ws", "begin it with a slash"),
        ("/ws?a", "leave the query out"),
        ("/ca\u00f1o", "percent-encode"),
        ("/healthz", "health checks"),
        ("/ws/{tenant}x", "a parameter is a whole segment"),
        ("/ws/{}", "a parameter is a whole segment"),
        ("/ws/{1a}", "a parameter is a whole segment"),
        ("/{a}/{a}", "two parameters of the same name"),
        ("/ws*", "a * stands alone"),
        ("/*/ws", "a * stands alone"),
        ("/{a}/*", "a prefix is literal"),
        ("/{a}" * (MAX_SEGMENTS + 1), "segments"),
    ],
)
def test_a_wrong_path_is_explained(path: str, part: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(part)):
        Pattern.of(path)


@pytest.mark.parametrize(
    "value",
    ["", ".", "..", "%2E%2e", "%2F", "a%5Cb", "%00", "%0d%0aX", "%7F", "%C2%85", "%E2%80%AE", "%FF", "%C0%AF", "%",
     "%4", "%zz", "%ED%A0%80", "a" * (MAX_VALUE_CHARS + 1)],
)  # fmt: skip
def test_values_that_could_mislead_match_nothing(value: str) -> None:
    assert found(table_of("/ws/{tenant}"), f"/ws/{value}") is None


@pytest.mark.parametrize(
    ("value", "decoded"),
    [
        ("a", "a"),
        ("a+b", "a+b"),
        ("%20", " "),
        ("a%20", "a "),
        ("%252F", "%2F"),
        ("...", "..."),
        ("caf%C3%A9", "caf\u00e9"),
        ("~", "~"),
    ],
)
def test_values_are_decoded_once(value: str, decoded: str) -> None:
    assert found(table_of("/{a}"), f"/{value}") == ("/{a}", {"a": decoded})


@pytest.mark.parametrize("path", ["/" * 8192, "/a" * 4096, "/" + "a" * 8191, "/ws/" + "%41" * 2700, "*", ""])
def test_long_and_odd_paths_find_nothing(path: str) -> None:
    assert found(table_of("/ws", "/{a}/{b}", "/ws/x/*", "/{a}"), path) is None


def test_hosts_come_first() -> None:
    routes = [
        DoorRoute("/ws", None, Handlers(), name="any"),
        DoorRoute("/*", None, Handlers(), name="v6", host="[::1]"),
    ]
    table = RouteTable(routes)
    assert found(table, "/ws", "[::1]:3001") == ("v6", {})
    assert found(table, "/ws", "localhost.:80") == ("any", {})
    assert found(table, "/ws", "") == ("any", {})


def test_a_thousand_templates_are_compiled_and_found() -> None:
    table = table_of(*(f"/{name}{number}/{{tenant}}" for name in "ab" for number in range(500)), "/ws")
    assert found(table, "/b77/acme") == ("/b77/{tenant}", {"tenant": "acme"})


@pytest.mark.parametrize("path", ["/ws7", "/t7/acme", "/none", "/p7/a/b"])
def test_a_look_costs_the_same_among_thousands(path: str) -> None:
    few = table_of("/ws7", "/t7/{tenant}", "/p7/*")
    many = table_of(
        *(each for number in range(1000) for each in (f"/ws{number}", f"/t{number}/{{a}}", f"/p{number}/*"))
    )
    assert steps(many, path) == steps(few, path)


def steps(table: RouteTable, path: str) -> int:
    """Return the number of lines of Python that a look executes."""
    count = 0

    def trace(*_: object) -> object:
        nonlocal count
        count += 1
        return trace

    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        table.find(path)
    finally:
        sys.settrace(None)
    return count
