"""Settings: declared once here, read from several places, handed on as one frozen object.

A field's type, default, range and sentence are the whole declaration; validation, the table in the README and the JSON
schema (`python -m server.settings`) come from it. Keys are camelCase in editors; kebab-case, snake_case and dotted keys
(`"completion.debounceMs"`) are read as well. Knows nothing of the protocol or of where the values come from.
"""

from __future__ import annotations

import difflib
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal, TypeVar, get_type_hints

from server.setting_values import checked, expected, shown, type_schema

SECTION = "loracle"

T = TypeVar("T")


def _setting(default: T, says: str, low: float | None = None, high: float | None = None) -> T:
    """A dataclass field with what the check and the table need to know."""
    declared: T = field(default=default, metadata={"says": says, "low": low, "high": high})
    return declared


@dataclass(frozen=True, slots=True)
class CompletionSettings:
    """Ghost text."""

    enabled: bool = _setting(True, "Offer completions.")
    trigger: Literal["automatic", "manual"] = _setting("automatic", "`manual`: only when a key asks for one.")
    debounce_ms: int = _setting(30, "Milliseconds without a key before a new suggestion is shown.", 0, 5_000)
    deadline_ms: int = _setting(
        300, "Milliseconds to write an answer in, for each alternative; reading a new place adds to it.", 10, 60_000
    )
    max_new_tokens: int = _setting(48, "Longest completion, in tokens.", 1, 512)
    multiline: Literal["auto", "never", "always"] = _setting(
        "auto", "Several lines at once; `auto`: where a block is open and empty."
    )
    # The highest value that loses at most 5 % of the exact matches, on the tuning packages (`make quality`, --tuning).
    min_confidence: float = _setting(
        0.05,
        "Completions whose first line is less likely right are withheld; 0 shows everything. At least 0.2 holds in "
        "languages that the model has not learned.",
        0,
        1,
    )
    candidates: int = _setting(3, "Number of alternatives when a key asks for them.", 1, 10)


@dataclass(frozen=True, slots=True)
class HoverSettings:
    """What is shown about the name under the mouse."""

    enabled: bool = _setting(True, "Answer hovers.")
    generate: Literal["auto", "always", "never"] = _setting(
        "auto", "The model's sentence; `auto`: where there is no docstring and the model is sure enough."
    )
    deadline_ms: int = _setting(250, "Milliseconds that a hover waits for the sentence.", 10, 60_000)


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """What the workspace's own text says comes next."""

    enabled: bool = _setting(True, "Let the repository's own text have a say in completions.")
    dependencies: bool = _setting(True, "Also the packages that the repository imports, from its own environment.")
    snippets: bool = _setting(
        False, "Show the model definitions and lines of other files; the one that comes along gains nothing."
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings, each of them valid."""

    model: str = _setting(
        "default", "`default` (the one that comes along), a folder, or a name in the local hub cache."
    )
    adapter: str = _setting("auto", "`auto` (what was trained for the workspace), `off`, or an adapter's folder.")
    engine: Literal["auto", "onnx", "torch"] = _setting("auto", "What runs the model; `torch` is the slow reference.")
    threads: int | None = _setting(None, "Threads for the model; null: one less than there are cores.", 1, 256)
    exclude: tuple[str, ...] = _setting((), "Globs of files that are never completed, read or learned from.")
    completion: CompletionSettings = CompletionSettings()
    hover: HoverSettings = HoverSettings()
    index: IndexSettings = IndexSettings()
    languages: Mapping[str, tuple[Mapping[str, Any], ...]] = field(
        default_factory=dict,
        metadata={"says": 'Settings by language: `{"python": {"completion": {"multiline": "never"}}}`.'},
    )

    def for_language(self, language_id: str) -> Settings:
        """These settings with the overrides for one language in force."""
        settings = self
        for overrides in self.languages.get(language_id, ()):
            settings = _Reader("", [], LANGUAGE_SECTIONS).read(settings, overrides)
        return settings


LANGUAGE_SECTIONS = frozenset({"completion", "hover"})
# A repository is somebody else's text: it must not decide which files are loaded as a model.
REPOSITORY_SETTINGS = frozenset(each.name for each in fields(Settings)) - {"model", "adapter"}


@dataclass(frozen=True, slots=True)
class Layer:
    """The values from one place, as they were written there."""

    source: str  # in words, for messages: "pyproject.toml of /home/x/project"
    values: Mapping[str, Any]
    from_repository: bool = False


def read_settings(layers: Sequence[Layer]) -> tuple[Settings, tuple[str, ...]]:
    """What the layers add up to, later ones winning, and for the user in words what is wrong with them.

    A wrong value is passed over: the default holds, or a valid value of an earlier layer. `null` means not set.
    """
    settings, problems = Settings(), list[str]()
    for layer in layers:
        allowed = REPOSITORY_SETTINGS if layer.from_repository else None
        settings = _Reader(layer.source, problems, allowed).read(settings, layer.values)
    return settings, tuple(problems)


def own_section(values: object) -> Mapping[str, Any]:
    """Our part of what an editor sent: the section `loracle` of it, or all of it where there is no such section."""
    if not isinstance(values, Mapping):
        return {}
    section = values.get(SECTION, values)
    return section if isinstance(section, Mapping) else {}


def is_setting(key: str) -> bool:
    """Whether a key on the top level is one of ours."""
    return _snake_case(key.partition(".")[0]) in {each.name for each in fields(Settings)}


class _Reader:
    """Reads the values of one source into settings; what is wrong with them is appended to `problems`."""

    def __init__(self, source: str, problems: list[str], allowed: frozenset[str] | None = None) -> None:
        self._source = source
        self._problems = problems
        self._allowed = allowed  # names on the top level; None: all

    def read(self, current: T, values: Mapping[str, Any], path: tuple[str, ...] = ()) -> T:
        """`current`, one of the dataclasses above, with the valid ones of `values` in it."""
        declared: dict[str, Field[Any]] = {each.name: each for each in fields(current)}  # type: ignore[arg-type]
        for written, value in _nested(values).items():
            known = declared.get(_snake_case(written))
            if known is None:
                close = difflib.get_close_matches(_snake_case(written), declared, 1)
                meant = f"; did you mean {camel_case(close[0])}?" if close else ""
                self._problem((*path, written), f"is not a setting and is ignored{meant}")
            elif isinstance(current, Settings) and self._allowed is not None and known.name not in self._allowed:
                reason = "a file of a repository may not choose it; set it in the editor or in the user's settings"
                self._problem((*path, camel_case(known.name)), f"is ignored: {reason}")
            elif value is not None:
                used = self._value(current, known, value, (*path, camel_case(known.name)))
                current = replace(current, **{known.name: used})  # type: ignore[type-var]
        return current

    def _value(self, owner: object, known: Field[Any], value: object, path: tuple[str, ...]) -> Any:
        """What a known key is to hold: `value` if it is valid, else what it held before."""
        before = getattr(owner, known.name)
        if is_dataclass(before) or known.name == "languages":
            if not isinstance(value, Mapping):
                return self._rejected(path, "an object with keys", value, before)
            return self._languages(before, value, path) if known.name == "languages" else self.read(before, value, path)
        kind, low, high = get_type_hints(type(owner))[known.name], known.metadata["low"], known.metadata["high"]
        valid, used = checked(value, kind, low, high)
        return used if valid else self._rejected(path, expected(kind, low, high), value, before)

    def _languages(
        self, before: Mapping[str, tuple[Mapping[str, Any], ...]], value: Mapping[str, Any], path: tuple[str, ...]
    ) -> Mapping[str, tuple[Mapping[str, Any], ...]]:
        """Overrides by language, kept as they were written: what they replace is known only when they are used."""
        overrides = dict(before)
        for language, written in _nested(value).items():
            if not isinstance(written, Mapping):
                self._rejected((*path, language), "an object with keys", written, {})
                continue
            by_name = {_snake_case(key): section for key, section in _nested(written).items()}
            for key in by_name.keys() - LANGUAGE_SECTIONS:
                self._problem((*path, language, key), "cannot differ by language; completion and hover can")
            sections = {key: by_name[key] for key in by_name.keys() & LANGUAGE_SECTIONS}
            self.read(Settings(), sections, (*path, language))
            overrides[language] = (*overrides.get(language, ()), sections)
        return overrides

    def _rejected(self, path: tuple[str, ...], wanted: str, value: object, used: T) -> T:
        holds = "" if is_dataclass(used) or isinstance(used, Mapping) else f"; {shown(used)} is used"
        self._problem(path, f"must be {wanted}, not {shown(value)}{holds}")
        return used

    def _problem(self, path: tuple[str, ...], says: str) -> None:
        self._problems.append(f"{self._source}: {SECTION}.{'.'.join(path)} {says}")


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` with dotted keys taken apart at their first dot."""
    result: dict[str, Any] = {}
    for written, value in values.items():
        head, dot, rest = str(written).partition(".")
        inner = {rest: value} if dot else value
        outer = result.get(head)
        result[head] = {**outer, **inner} if isinstance(outer, Mapping) and isinstance(inner, Mapping) else inner
    return result


def camel_case(name: str) -> str:
    """A field's name as editors write it."""
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def _snake_case(key: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key).replace("-", "_").lower()


def settings_table() -> str:
    """The settings as a Markdown table, for the README."""
    rows = ["| setting | default | values | meaning |", "|---|---|---|---|"]
    sections = ((CompletionSettings(), "completion."), (HoverSettings(), "hover."), (IndexSettings(), "index."))
    for owner, prefix in ((Settings(), ""), *sections):
        kinds = get_type_hints(type(owner))
        for each in fields(owner):
            default = getattr(owner, each.name)
            if is_dataclass(default):
                continue
            limits = (each.metadata.get("low"), each.metadata.get("high"))
            values = "an object" if each.name == "languages" else expected(kinds[each.name], *limits)
            name = f"{prefix}{camel_case(each.name)}"
            rows.append(f"| `{name}` | `{json.dumps(default)}` | {values} | {each.metadata['says']} |")
    return "\n".join(rows)


def json_schema() -> dict[str, Any]:
    """The settings as a JSON schema for the section `loracle`."""
    schema = _object_schema(Settings())
    by_language = {name: schema["properties"][name] for name in sorted(LANGUAGE_SECTIONS)}
    schema["properties"]["languages"]["additionalProperties"] = {
        "type": "object",
        "properties": by_language,
        "additionalProperties": False,
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": SECTION, **schema}


def _object_schema(owner: Any) -> dict[str, Any]:
    kinds = get_type_hints(type(owner))
    properties: dict[str, Any] = {}
    for each in fields(owner):
        default = getattr(owner, each.name)
        if is_dataclass(default):
            properties[camel_case(each.name)] = {"description": type(default).__doc__, **_object_schema(default)}
            continue
        properties[camel_case(each.name)] = {
            "description": each.metadata["says"],
            "default": json.loads(json.dumps(default)),
            **type_schema(kinds[each.name], each.metadata.get("low"), each.metadata.get("high")),
        }
    return {"type": "object", "properties": properties, "additionalProperties": False}


if __name__ == "__main__":
    print(json.dumps(json_schema(), indent=2) if "--schema" in sys.argv[1:] else settings_table())
