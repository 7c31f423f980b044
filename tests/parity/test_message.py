"""`ConversationMessage` does in programs what the published SDK's model does."""

from __future__ import annotations

import json
from typing import Any

import fastapi
import pydantic
import pytest
from starlette.testclient import TestClient

from tests.parity.conftest import Package

FIELDS = {"role": "user", "content": "h\u00e9 \u2013 \U0001f355"}


def message_class(package: Package) -> Any:
    return package.module("speech_engine").ConversationMessage


def model_of(message: Any) -> Any:
    return pydantic.create_model("Talk", messages=(list[message], ...), last=(message | None, None))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mode": "json"},
        {"exclude": {"role"}},
        {"exclude": ["role"]},
        {"include": {"content"}},
        {"include": {"role": True}, "exclude": {"content": True}},
        {"exclude": {"role": ...}},
        {"include": set()},
        {"exclude_none": True, "by_alias": True, "exclude_unset": False},
    ],
)
def test_model_dump_takes_pydantics_options(package: Package, options: dict[str, Any]) -> None:
    left = set(FIELDS)
    if "include" in options:
        left &= set(options["include"])
    left -= set(options.get("exclude", ()))
    dumped = message_class(package)(**FIELDS).model_dump(**options)
    assert dumped == {name: FIELDS[name] for name in left}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, '{"role":"user","content":"h\u00e9 \u2013 \U0001f355"}'),
        ({"indent": 2}, '{\n  "role": "user",\n  "content": "h\u00e9 \u2013 \U0001f355"\n}'),
        ({"indent": 1, "exclude": {"content"}}, '{\n "role": "user"\n}'),
        ({"include": {"role"}}, '{"role":"user"}'),
    ],
)
def test_model_dump_json_takes_pydantics_options(package: Package, options: dict[str, Any], text: str) -> None:
    assert message_class(package)(**FIELDS).model_dump_json(**options) == text


def test_copies_and_validation(package: Package) -> None:
    message = message_class(package)
    first = message(**FIELDS)
    assert first.model_copy() == first
    assert first.model_copy(update={"content": "x"}).model_dump() == {"role": "user", "content": "x"}
    assert message.model_validate(FIELDS) == message.model_validate(first) == first
    assert message.model_validate_json(json.dumps(FIELDS)) == first
    for wrong in ({"role": "user"}, 3, None):
        with pytest.raises(ValueError, match="ConversationMessage"):
            message.model_validate(wrong)


def test_models_that_hold_messages(package: Package) -> None:
    message = message_class(package)
    talk = model_of(message)(messages=[message(**FIELDS), FIELDS], last=FIELDS)
    assert talk.messages == [message(**FIELDS)] * 2
    assert talk.model_dump() == {"messages": [FIELDS, FIELDS], "last": FIELDS}
    assert json.loads(talk.model_dump_json()) == talk.model_dump()
    with pytest.raises(pydantic.ValidationError) as refused:
        model_of(message)(messages=[{"role": "user"}])
    assert refused.value.errors()[0]["loc"] == ("messages", 0, "content")
    assert refused.value.errors()[0]["type"] == "missing"


@pytest.mark.parametrize("mode", ["validation", "serialization"])
def test_json_schemas_name_the_message(package: Package, mode: str) -> None:
    schema = model_of(message_class(package)).model_json_schema(mode=mode)
    assert schema["properties"]["messages"]["items"] == {"$ref": "#/$defs/ConversationMessage"}
    described = schema["$defs"]["ConversationMessage"]
    assert described.pop("description")
    assert described == {
        "title": "ConversationMessage",
        "type": "object",
        "required": ["role", "content"],
        "properties": {
            "role": {"title": "Role", "type": "string"},
            "content": {"title": "Content", "type": "string"},
        },
    }


def test_fastapi_takes_returns_and_describes_messages(package: Package) -> None:
    message = message_class(package)
    talk = model_of(message)
    app = fastapi.FastAPI()

    async def last(talk: Any) -> Any:
        return talk.messages[-1]

    last.__annotations__ = {"talk": talk, "return": message}
    app.post("/last")(last)
    client = TestClient(app)
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    assert schemas["ConversationMessage"]["required"] == ["role", "content"]
    assert client.post("/last", json={"messages": [FIELDS]}).json() == FIELDS
    assert client.post("/last", json={"messages": [{"role": "user"}]}).status_code == 422
