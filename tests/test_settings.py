"""Settings: what several places say adds up to one valid object, and the user hears of every mistake."""

from __future__ import annotations

from typing import Any

import pytest

from server.settings import Layer, Settings, is_setting, json_schema, own_section, read_settings, settings_table


def read(*values: dict[str, Any]) -> tuple[Settings, tuple[str, ...]]:
    return read_settings([Layer(f"place {number}", each) for number, each in enumerate(values, 1)])


def test_without_any_source_the_defaults_hold() -> None:
    assert read() == (Settings(), ())


def test_a_later_place_wins_and_leaves_the_rest_alone() -> None:
    settings, problems = read(
        {"model": "a", "completion": {"debounceMs": 5, "candidates": 2}},
        {"model": "b", "completion": {"debounceMs": 6}},
    )
    assert (settings.model, settings.completion.debounce_ms, settings.completion.candidates) == ("b", 6, 2)
    assert not problems


@pytest.mark.parametrize(
    "values",
    [
        {"completion": {"debounceMs": 7}},
        {"completion": {"debounce-ms": 7}},
        {"completion": {"debounce_ms": 7}},
        {"completion.debounceMs": 7},
        {"completion": {"debounceMs": 7.0}},
        {"completion": {"candidates": 1, "debounceMs": 7}, "completion.candidates": 3},
    ],
)
def test_a_key_is_read_however_it_is_spelled(values: dict[str, Any]) -> None:
    settings, problems = read(values)
    assert settings.completion.debounce_ms == 7
    assert settings.completion.candidates == 3
    assert not problems


@pytest.mark.parametrize(
    "values, named",
    [
        ({"completion": {"debounceMs": "soon"}}, "completion.debounceMs must be a whole number from 0 to 5000"),
        ({"completion": {"debounceMs": -1}}, "completion.debounceMs"),
        ({"completion": {"debounceMs": 1.5}}, "completion.debounceMs"),
        ({"completion": {"debounceMs": True}}, "completion.debounceMs"),
        ({"completion": {"debounceMs": float("nan")}}, "completion.debounceMs"),
        ({"completion": {"debounceMs": 10**400}}, "completion.debounceMs"),
        ({"completion": {"minConfidence": 10**9000}}, "0 to 1, not a value that is too long to show; 0.05 is used"),
        ({"completion": {"minConfidence": 1.1}}, "completion.minConfidence must be a number from 0 to 1"),
        ({"completion": {"enabled": 1}}, "completion.enabled must be true or false, not 1"),
        ({"completion": {"trigger": "always"}}, 'must be "automatic" or "manual", not "always"'),
        ({"completion": {"trigger": ["automatic"]}}, "completion.trigger"),
        ({"completion": 3}, "completion must be an object with keys, not 3"),
        ({"engine": "gpu"}, 'engine must be "auto", "onnx" or "torch", not "gpu"; "auto" is used'),
        ({"threads": 0}, "threads"),
        ({"model": ""}, "model must be a text"),
        ({"exclude": "*.py"}, "exclude must be a list of texts"),
        ({"exclude": ["*.py", 3]}, "exclude"),
        ({"languages": []}, "languages must be an object"),
        ({"languages": {"python": 3}}, "languages.python must be an object"),
        ({"languages": {"python": {"model": "x"}}}, "languages.python.model cannot differ by language"),
        ({"languages": {"python": {"hover": {"generate": "no"}}}}, "languages.python.hover.generate must be"),
        ({"debounceMs": 3}, "debounceMs is not a setting"),
        (
            {"completion": {"debounce": 3}},
            "completion.debounce is not a setting and is ignored; did you mean debounceMs?",
        ),
        ({"modell": "x"}, "did you mean model?"),
    ],
)
def test_a_mistake_is_named_with_its_place_and_the_default_is_used(values: dict[str, Any], named: str) -> None:
    settings, (problem,) = read(values)
    assert problem.startswith("place 1: loracle.")
    assert named in problem
    assert settings.for_language("python") == Settings() or "languages" in values
    assert settings.for_language("python").completion == Settings().completion


def test_a_wrong_value_leaves_a_valid_one_of_an_earlier_place_in_force() -> None:
    settings, problems = read({"threads": 4}, {"threads": "many"})
    assert settings.threads == 4
    assert problems == ('place 2: loracle.threads must be a whole number from 1 to 256, not "many"; 4 is used',)


def test_null_means_not_set() -> None:
    assert read({"threads": 4, "completion": None, "model": None}, {"threads": None})[0] == Settings(threads=4)


def test_one_wrong_key_does_not_spoil_the_others() -> None:
    settings, problems = read({"completion": {"debounceMs": "x", "candidates": 5}, "nonsense": 1, "model": "m"})
    assert (settings.model, settings.completion.candidates, len(problems)) == ("m", 5, 2)


def test_sequences_may_be_lists_or_tuples() -> None:
    assert read({"exclude": ("a", "b")})[0] == read({"exclude": ["a", "b"]})[0] == Settings(exclude=("a", "b"))


def test_a_repository_chooses_neither_model_nor_adapter() -> None:
    values = {"model": "evil", "adapter": "evil", "threads": 2, "completion": {"candidates": 1}}
    settings, problems = read_settings([Layer("pyproject.toml", values, from_repository=True)])
    assert (settings.model, settings.adapter, settings.threads) == ("default", "auto", 2)
    assert [problem.split()[1] for problem in problems] == ["loracle.model", "loracle.adapter"]


def test_a_language_may_differ() -> None:
    settings, problems = read(
        {
            "completion": {"multiline": "never", "candidates": 2},
            "languages": {"python": {"completion": {"candidates": 5}}},
        },
        {"languages": {"python": {"completion": {"multiline": "always"}, "hover": {"enabled": False}}}},
    )
    python = settings.for_language("python")
    assert (python.completion.multiline, python.completion.candidates, python.hover.enabled) == ("always", 5, False)
    assert settings.for_language("go").completion == settings.completion
    assert not problems


def test_an_override_equal_to_the_default_is_one() -> None:
    values = {"completion": {"candidates": 9}, "languages.go.completion.candidates": 3}
    assert read(values)[0].for_language("go").completion.candidates == 3


@pytest.mark.parametrize(
    "sent, own",
    [
        ({"loracle": {"model": "x"}}, {"model": "x"}),
        ({"model": "x"}, {"model": "x"}),
        ({"loracle": None}, {}),
        ({"loracle": 3}, {}),
        (None, {}),
        ([1], {}),
    ],
)
def test_values_are_found_bare_or_under_our_name(sent: object, own: dict[str, Any]) -> None:
    assert own_section(sent) == own


def test_our_keys_are_told_from_those_of_others() -> None:
    assert is_setting("completion.debounceMs")
    assert is_setting("model")
    assert not is_setting("pylsp")


def test_the_schema_accepts_the_defaults_and_names_every_key_of_the_table() -> None:
    def keys(schema: dict[str, Any], prefix: str = "") -> list[str]:
        found: list[str] = []
        for name, part in schema["properties"].items():
            nested = "properties" in part
            found += keys(part, f"{prefix}{name}.") if nested else [f"{prefix}{name}"]
        return found

    def defaults(schema: dict[str, Any]) -> dict[str, Any]:
        return {
            name: defaults(part) if "properties" in part else part["default"]
            for name, part in schema["properties"].items()
        }

    schema = json_schema()
    table = settings_table()
    assert {f"`{key}`" for key in keys(schema)} == {line.split("|")[1].strip() for line in table.splitlines()[2:]}
    assert read(defaults(schema)) == (Settings(), ())
