"""The tables of `se-ctl` at a terminal of 80 columns."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from se_server.cli.ctl_tables import conversations_view, keys_view, show, status_view


def shown(view: Any) -> str:
    console = Console(width=80, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(view)
    return capture.get()


def status(**values: object) -> dict[str, Any]:
    row = {
        "worker": 127, "pid": 4194303, "generation": 12, "state": "draining", "age_s": 3599.0, "sessions": 12345,
        "turns": 12345, "loop_lag_s": 0.0, "silent_s": None, "rss_bytes": 9999 * 2**20, **values,
    }  # fmt: skip
    names = ("sessions_opened", "turns_started", "turns_superseded", "turns_failed")
    return {"workers": [row], "totals": dict.fromkeys(names, 1), "state": "ready", "sessions_elsewhere": 0}


def test_all_columns_of_status_fit_a_terminal() -> None:
    for text in (shown(status_view(status())), shown(status_view(status(silent_s=29.9)))):
        assert "…" not in text
        assert all(len(line) <= 80 for line in text.splitlines())
        assert "12345" in text
        assert "9999 MiB" in text


def test_one_conversation_is_singular() -> None:
    text = " ".join(shown(status_view(status(sessions=1, turns=1))).split())
    assert "ready: 1 conversation, 1 turn running, " in text
    assert "since the start 1 conversation and 1 turn, " in text
    rows = [(0, 71, ("conv_1", 1.0, "listening", None))]
    assert "\n1 conversation\n" in shown(conversations_view({"rows": rows, "left_out": 0, "silent": []}))


def test_keys_are_shown_with_their_place(capsys: pytest.CaptureFixture[str]) -> None:
    def row(route: str, **values: object) -> dict[str, object]:
        return {"route": route, "keys": ["9277831f"], "authenticates": True, "source": "", **values}

    show(keys_view({"rows": [row("/a", source="api_key in [[routes]] 1 in se.toml"), row("/b", authenticates=False)]}))
    first, second = (line.rstrip() for line in capsys.readouterr().out.splitlines()[3:5])
    assert first.split(maxsplit=2) == ["/a", "9277831f", "api_key in [[routes]] 1 in se.toml"]
    assert second.split(maxsplit=1) == ["/b", "none: no token is asked for"]
