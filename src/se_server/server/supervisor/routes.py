"""The routes and the keys of a server, as `se-ctl` shows them."""

from __future__ import annotations

from se_server.auth import key_fingerprint
from se_server.demo import DEMO_API_KEY
from se_server.server.config.config import Config
from se_server.server.shared.scoreboard import Scoreboard
from se_server.telemetry._meters import COUNT_NAMES
from se_server.telemetry.families import OUTCOMES

_ENDED = [COUNT_NAMES.index(outcome) for outcome in OUTCOMES]
_BEGUN, _TURNS, _FAILED = (COUNT_NAMES.index(name) for name in ("conversations", "turns", "failed"))


def routes_of(config: Config, board: Scoreboard) -> list[dict[str, object]]:
    """Return the figures of each route, in the order of the file; those that are gone only while they are in use."""
    figures = {route.name: route for route in board.route_figures()} if config.routes else {}
    now = {route.name: route for route in config.routes}
    names = [*now, *(name for name, seen in figures.items() if name not in now and seen.conversations)]
    rows: list[dict[str, object]] = []
    for name in names:
        route, seen = now.get(name), figures.get(name)
        cells = [0] * len(COUNT_NAMES) if seen is None else seen.cells
        rows.append(
            {
                "route": name,
                "app": None if route is None else route.app,
                "sessions": 0 if seen is None else seen.conversations,
                "max_sessions": None if route is None else route.max_sessions,
                "sessions_opened": cells[_BEGUN],
                "turns": max(0, cells[_TURNS] - sum(cells[place] for place in _ENDED)),
                "turns_ended": sum(cells[place] for place in _ENDED),
                "turns_failed": cells[_FAILED],
            }
        )
    return rows


def keys_of(config: Config) -> list[dict[str, object]]:
    """Return the keys of each route by their fingerprints, and their source."""
    rows: list[dict[str, object]] = []
    routes: list[tuple[str | None, Config]] = [(route.name, config.of_route(route)) for route in config.routes]
    for name, own in routes or [(None, config)]:
        keys = own.route.api_key
        source = own.sources.get("api_key", "default")
        rows.append(
            {
                "route": name,
                "authenticates": not own.route.disable_auth,
                "source": "the APP or its environment" if not keys else source,
                "keys": [key_fingerprint(key) for key in keys],
                "is_demo": keys == (DEMO_API_KEY,),
            }
        )
    return rows
