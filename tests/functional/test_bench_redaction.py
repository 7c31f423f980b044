"""The short form of `python -m bench.redaction`: nothing private is on the disk, and what is there is found."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("needs GNU grep", allow_module_level=True)

from bench import redaction


def test_nothing_private_is_on_the_disk_after_load() -> None:
    turns, files, _, found = redaction.run(40)
    assert (turns, files) == (160, 40)
    assert found == []


def test_a_private_value_on_the_disk_is_found(tmp_path: Path) -> None:
    who = redaction.person(random.Random(1))
    header = json.dumps({"recording": {"version": 2, "conversation_id": "conv_0"}})
    for name, text in (("plain", who.needles[2]), ("spaced", "\u00a0".join(who.needles[0]))):
        (tmp_path / f"{name}.jsonl").write_text(f"{header}\n{json.dumps({'text': json.dumps(text)})}\n")
    found = "\n".join(redaction.search(tmp_path, [who]))
    assert "plain.jsonl" in found
    assert "spaced.jsonl" in found
