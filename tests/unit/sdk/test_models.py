"""The wrappers of the API's JSON objects."""

from __future__ import annotations

import copy
import json
import pickle

import orjson
import pydantic
import pytest

from se_server.sdk.models import ApiObject, EngineConfig, EnginePage, SpeechEngineConfig

FIELDS = {
    "name": "n",
    "asr": {"keywords": ["a"], "inner": {"list": [{"x": 1}, [{"y": 2}]]}},
    "items": 3,
    "nothing": None,
}


def test_fields_are_attributes_and_keys_at_any_depth() -> None:
    config = ApiObject(FIELDS)
    assert config.asr.inner.list[0].x == 1
    assert config["asr"]["inner"]["list"][1][0]["y"] == 2
    assert config.asr.inner.list[1][0].y == 2
    assert config["items"] == 3
    assert config.nothing is None
    assert {**config} == config == FIELDS
    assert "asr" in dir(config)


def test_nothing_can_be_changed() -> None:
    config = ApiObject(FIELDS)
    for change in (
        lambda: setattr(config, "name", "x"),
        lambda: setattr(config.asr, "new", 1),
        lambda: delattr(config, "name"),
    ):
        with pytest.raises(AttributeError, match="read-only"):
            change()
    with pytest.raises(TypeError):
        config["name"] = "x"  # type: ignore[index]
    config.asr.keywords.append("b")
    config.model_dump()["asr"]["keywords"].append("b")
    assert config.asr.keywords == ["a"]


def test_missing_field_names_the_fields_that_exist() -> None:
    with pytest.raises(AttributeError, match=r"no 'voice' here; it sent name, asr, items, nothing"):
        _ = ApiObject(FIELDS).voice
    assert EngineConfig({}).access_info is None
    assert EnginePage({"speech_engines": []}).next_cursor is None


def test_model_dump_gives_plain_dicts_that_json_takes() -> None:
    dumped = EngineConfig(FIELDS).model_dump(mode="json")
    assert type(dumped) is dict
    assert json.loads(json.dumps(dumped)) == orjson.loads(orjson.dumps(dumped)) == FIELDS


@pytest.mark.parametrize(
    ("options", "dumped"),
    [
        ({"exclude": {"asr", "items"}}, {"name": "n", "nothing": None}),
        ({"include": {"name"}}, {"name": "n"}),
        ({"include": {"name", "items"}, "exclude": {"items"}}, {"name": "n"}),
        (
            {"exclude": {"asr": {"inner": True}, "items": ...}},
            {"name": "n", "asr": {"keywords": ["a"]}, "nothing": None},
        ),
        ({"include": {"asr": {"keywords": {0}}}}, {"asr": {"keywords": ["a"]}}),
        ({"include": {"items", "nothing"}, "exclude_none": True}, {"items": 3}),
    ],
)
def test_dumps_take_pydantics_options(options: dict[str, object], dumped: object) -> None:
    class Model(pydantic.BaseModel):
        name: str
        asr: dict[str, object]
        items: int
        nothing: None

    assert EngineConfig(FIELDS).model_dump(**options) == dumped == Model(**FIELDS).model_dump(**options)


def test_dumps_as_json_equal_pydantics() -> None:
    class Model(pydantic.BaseModel):
        ws_url: str
        request_headers: dict[str, str]

    ours = SpeechEngineConfig("wss://x/\u00e9", {"X-Name": "a"})
    published = Model(ws_url=ours.ws_url, request_headers=ours.request_headers)
    for options in ({}, {"indent": 2}, {"exclude": {"request_headers"}}):
        assert ours.model_dump_json(**options) == published.model_dump_json(**options)
        assert EngineConfig(ours.model_dump()).model_dump_json(**options) == published.model_dump_json(**options)


def test_objects_survive_copy_and_pickle() -> None:
    config = EngineConfig(FIELDS)
    for other in (copy.copy(config), copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
        assert type(other) is EngineConfig
        assert other == config


def test_reprs_show_names_and_no_values() -> None:
    assert repr(EngineConfig({"name": "secret", "asr": {}})) == "<EngineConfig name, asr>"
    config = SpeechEngineConfig("wss://user:secret@agent.example/ws?token=secret", {"X-Auth": "secret"})
    assert repr(config) == "<SpeechEngineConfig wss://agent.example/ws request_headers=['X-Auth']>"


def test_a_speech_engine_config_is_a_value() -> None:
    config = SpeechEngineConfig(ws_url="wss://x", request_headers={})
    assert config == SpeechEngineConfig("wss://x", {})
    assert config.model_dump() == {"ws_url": "wss://x", "request_headers": {}}
    assert SpeechEngineConfig("wss://x").model_dump() == {"ws_url": "wss://x"}
    with pytest.raises(AttributeError):
        config.ws_url = "wss://y"  # type: ignore[misc]
