"""Each method as an editor uses it, through a real server process, with positions in each of the three encodings."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from e2e.wire import SERVER, WAIT_S
from lsprotocol import types
from pytest_lsp import ClientServerConfig, LanguageClient

from tests.marks import split_at_cursor

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180), pytest.mark.asyncio(loop_scope="module")]

UNIT_BYTES = {"utf-8": ("utf-8", 1), "utf-16": ("utf-16-le", 2), "utf-32": ("utf-32-le", 4)}
SETTINGS = {"completion": {"deadlineMs": 60_000, "minConfidence": 0.0}, "hover": {"deadlineMs": 60_000}}
N_URIS = itertools.count()


class Editor:
    """A client of one server, which counts columns in one encoding."""

    def __init__(self, client: LanguageClient, encoding: str) -> None:
        self.client = client
        self.encoding = encoding
        self.texts: dict[str, str] = {}
        self.result: types.InitializeResult | None = None

    def open(self, text: str) -> str:
        uri = f"file:///work/editor_{next(N_URIS)}.py"
        self.texts[uri] = text
        item = types.TextDocumentItem(uri=uri, language_id="python", version=1, text=text)
        self.client.text_document_did_open(types.DidOpenTextDocumentParams(text_document=item))
        return uri

    def position(self, uri: str, offset: int) -> types.Position:
        before = self.texts[uri][:offset]
        line = before.rpartition("\n")[2]
        codec, size = UNIT_BYTES[self.encoding]
        return types.Position(line=before.count("\n"), character=len(line.encode(codec)) // size)

    def range(self, uri: str, start: int, end: int) -> types.Range:
        return types.Range(start=self.position(uri, start), end=self.position(uri, end))

    def edit(self, uri: str, version: int, start: int, end: int, new: str) -> None:
        change = types.TextDocumentContentChangePartial(range=self.range(uri, start, end), text=new)
        self.texts[uri] = self.texts[uri][:start] + new + self.texts[uri][end:]
        identifier = types.VersionedTextDocumentIdentifier(uri=uri, version=version)
        self.client.text_document_did_change(
            types.DidChangeTextDocumentParams(text_document=identifier, content_changes=[change])
        )

    async def complete(
        self, uri: str, offset: int, *, invoked: bool = False, selected: types.SelectedCompletionInfo | None = None
    ) -> list[types.InlineCompletionItem]:
        kinds = types.InlineCompletionTriggerKind
        answer = await self.client.text_document_inline_completion_async(
            types.InlineCompletionParams(
                text_document=types.TextDocumentIdentifier(uri=uri),
                position=self.position(uri, offset),
                context=types.InlineCompletionContext(
                    trigger_kind=kinds.Invoked if invoked else kinds.Automatic, selected_completion_info=selected
                ),
            )
        )
        assert isinstance(answer, types.InlineCompletionList)
        return list(answer.items)

    async def hover(self, uri: str, offset: int) -> types.Hover | None:
        return await self.client.text_document_hover_async(
            types.HoverParams(text_document=types.TextDocumentIdentifier(uri=uri), position=self.position(uri, offset))
        )

    async def execute(self, command: str, *arguments: Any) -> Any:
        params = types.ExecuteCommandParams(command=command, arguments=list(arguments))
        return await self.client.workspace_execute_command_async(params)

    async def loaded(self) -> None:
        """Returns when the server has its model."""
        await eventually(self, lambda: self._status("model"))

    async def _status(self, key: str) -> Any:
        return (await self.execute("loracle.status"))[key]


async def eventually(editor: Editor, question: Callable[[], Awaitable[Any]]) -> Any:
    """The first answer that is true. Each is asked of the server, so that nothing is waited for but its work."""
    async with asyncio.timeout(WAIT_S):
        while not (answer := await question()):
            pass
        return answer


def capabilities(
    encoding: str = "utf-16", *, progress: bool = True, configuration: bool = True
) -> types.ClientCapabilities:
    return types.ClientCapabilities(
        general=types.GeneralClientCapabilities(position_encodings=[types.PositionEncodingKind(encoding)]),
        window=types.WindowClientCapabilities(work_done_progress=progress),
        workspace=types.WorkspaceClientCapabilities(configuration=configuration),
        text_document=types.TextDocumentClientCapabilities(
            inline_completion=types.InlineCompletionClientCapabilities(),
            hover=types.HoverClientCapabilities(content_format=[types.MarkupKind.Markdown]),
        ),
    )


async def connect(model: Path, home: Path, client_capabilities: types.ClientCapabilities, **params: Any) -> Editor:
    """A new server and its client, after `initialize`."""
    environment = os.environ | {"HOME": str(home), "XDG_CONFIG_HOME": str(home), "XDG_CACHE_HOME": str(home)}
    config = ClientServerConfig(server_command=[*SERVER, "--model", str(model)], server_env=environment)
    client = await config.start()
    assert isinstance(client, LanguageClient)
    client.set_configuration({"loracle": params.pop("configuration", SETTINGS)})
    encodings = client_capabilities.general.position_encodings if client_capabilities.general else None
    editor = Editor(client, encodings[0].value if encodings else "utf-16")
    editor.result = await client.initialize_session(types.InitializeParams(capabilities=client_capabilities, **params))
    return editor


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["utf-8", "utf-16", "utf-32"])
async def editor(
    request: pytest.FixtureRequest, scripted_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Editor]:
    result = await connect(scripted_model, tmp_path_factory.mktemp("home"), capabilities(request.param))
    await result.loaded()
    yield result
    await result.client.shutdown_session()
    await result.client.stop()


# Before the cursor on its line stand characters of two, three and four bytes, of one unit of utf-16 and of two.
RETURN = 'def add(first, second): s = "é€😋"; return <|>\n'
CALL = 'def add(first, second):\n    return first + second\n\n\ns = "é€😋", a<|>dd(1, 2)\n'


async def test_the_capabilities_are_those_that_editors_look_for(editor: Editor) -> None:
    assert editor.result is not None
    offered = editor.result.capabilities
    assert offered.position_encoding == editor.encoding
    assert offered.inline_completion_provider == types.InlineCompletionOptions(work_done_progress=False)
    assert offered.hover_provider is True
    assert offered.execute_command_provider is not None
    assert {"loracle.explain", "loracle.status", "loracle.accepted"} <= set(offered.execute_command_provider.commands)
    assert isinstance(offered.text_document_sync, types.TextDocumentSyncOptions)
    assert offered.text_document_sync.change is types.TextDocumentSyncKind.Incremental


async def test_an_inline_completion_has_one_item_with_its_range_and_command(editor: Editor) -> None:
    text, offset = split_at_cursor(RETURN)
    uri = editor.open(text)
    (item,) = await editor.complete(uri, offset)
    assert item.insert_text == "first + second"
    assert item.range == editor.range(uri, offset, offset)
    assert item.command is not None
    before = await editor.execute("loracle.status")
    assert await editor.execute(item.command.command, *(item.command.arguments or ())) is True
    after = await editor.execute("loracle.status")
    assert after["accepted"] == before["accepted"] + 1


async def test_asked_by_a_key_the_first_of_several_items_is_the_automatic_one(editor: Editor) -> None:
    text, offset = split_at_cursor(RETURN)
    items = await editor.complete(editor.open(text), offset, invoked=True)
    assert 1 <= len(items) <= 3
    assert items[0].insert_text == "first + second"
    assert len({item.insert_text for item in items}) == len(items)


async def test_typing_along_is_answered_from_memory_under_the_same_name(editor: Editor) -> None:
    text, offset = split_at_cursor(RETURN)
    uri = editor.open(text)
    (item,) = await editor.complete(uri, offset)
    before = await editor.execute("loracle.status")
    editor.edit(uri, 2, offset, offset, "fi")
    (rest,) = await editor.complete(uri, offset + 2)
    assert rest.insert_text == "rst + second"
    assert rest.range == editor.range(uri, offset + 2, offset + 2)
    assert rest.command == item.command
    after = await editor.execute("loracle.status")
    assert (after["typedThrough"], after["shown"]) == (before["typedThrough"] + 1, before["shown"])


async def test_what_the_popup_selects_is_taken_as_typed_and_replaced_by_the_item(editor: Editor) -> None:
    text, offset = split_at_cursor('def add(first, second): s = "é€😋"; re<|>\n')
    uri = editor.open(text)
    selected = types.SelectedCompletionInfo(range=editor.range(uri, offset - 2, offset), text="return")
    (item,) = await editor.complete(uri, offset, selected=selected)
    assert item.insert_text == "return first + second"
    assert item.range == editor.range(uri, offset - 2, offset)


async def test_edits_behind_wide_characters_and_odd_line_breaks_change_the_right_place(editor: Editor) -> None:
    text, offset = split_at_cursor('# \x0c \u2028 \x85\r\n# é\rdef add(first, second): s = "😋"; retu<|> old\n')
    uri = f"file:///work/editor_{next(N_URIS)}.py"
    editor.texts[uri] = line = text.rpartition("\r")[2]  # positions are those of the third line
    item = types.TextDocumentItem(uri=uri, language_id="python", version=1, text=text)
    editor.client.text_document_did_open(types.DidOpenTextDocumentParams(text_document=item))
    start = line.index("retu")
    codec, size = UNIT_BYTES[editor.encoding]
    first = types.Position(line=2, character=len(line[:start].encode(codec)) // size)
    last = types.Position(line=2, character=first.character + len("retu old"))
    change = types.TextDocumentContentChangePartial(range=types.Range(start=first, end=last), text="return ")
    editor.client.text_document_did_change(
        types.DidChangeTextDocumentParams(
            text_document=types.VersionedTextDocumentIdentifier(uri=uri, version=2), content_changes=[change]
        )
    )
    position = types.Position(line=2, character=first.character + len("return "))
    answer = await editor.client.text_document_inline_completion_async(
        types.InlineCompletionParams(
            text_document=types.TextDocumentIdentifier(uri=uri),
            position=position,
            context=types.InlineCompletionContext(trigger_kind=types.InlineCompletionTriggerKind.Invoked),
        )
    )
    assert isinstance(answer, types.InlineCompletionList)
    assert answer.items[0].insert_text == "first + second"
    assert answer.items[0].range == types.Range(start=position, end=position)


async def test_a_hover_says_what_a_name_is_and_where_it_stands(editor: Editor) -> None:
    text, offset = split_at_cursor(CALL)
    uri = editor.open(text)
    hover = await editor.hover(uri, offset)
    assert hover is not None
    assert isinstance(hover.contents, types.MarkupContent)
    assert hover.contents.kind is types.MarkupKind.Markdown
    assert "def add(first, second)" in hover.contents.value
    assert hover.range == editor.range(uri, offset - 1, offset + 2)
    assert await editor.hover(uri, text.index("é")) is None


async def test_explain_answers_for_a_position_and_for_a_selection(editor: Editor) -> None:
    text, offset = split_at_cursor(CALL)
    uri = editor.open(text)

    def plain(position: types.Position) -> dict[str, int]:
        return {"line": position.line, "character": position.character}

    at_name = await editor.execute("loracle.explain", {"uri": uri, "position": plain(editor.position(uri, offset))})
    assert "def add(first, second)" in at_name["markdown"]
    whole = editor.range(uri, 0, text.index("\n\n"))
    selected = await editor.execute(
        "loracle.explain", {"uri": uri, "range": {"start": plain(whole.start), "end": plain(whole.end)}}
    )
    assert "def add(first, second)" in selected["markdown"]
    for answer in (at_name, selected):
        assert set(answer) == {"markdown", "sentence", "confidence"}
        assert 0.0 <= answer["confidence"] <= 1.0
        assert answer["sentence"] is None or answer["sentence"] in answer["markdown"]


async def test_the_status_says_what_serves_and_how(editor: Editor, scripted_model: Path) -> None:
    status = await editor.execute("loracle.status")
    assert status["model"] == str(scripted_model)
    assert (status["engine"], status["precision"], status["adapter"]) == ("onnx", "int8", None)
    assert status["settingsProblems"] == []
    assert status["memoryMb"] > 10
    for count in ("requests", "shown", "accepted", "superseded", "cancelled", "typedThrough"):
        assert isinstance(status[count], int)


async def test_why_says_in_words_where_the_last_request_ended(editor: Editor) -> None:
    text, offset = split_at_cursor(RETURN)
    await editor.complete(editor.open(text), offset)
    why = await editor.execute("loracle.why")
    assert why["ended"] == "offered"
    assert 0.0 <= why["confidence"] <= 1.0
    assert [verdict["filter"] for verdict in why["filters"]][-1] == "confidence"


# --- configuration and messages: one server each --------------------------------------------------------------


@pytest_asyncio.fixture(loop_scope="module")
async def start(scripted_model: Path, tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Editor]]]:
    started: list[Editor] = []

    async def start_one(client_capabilities: types.ClientCapabilities, **params: Any) -> Editor:
        started.append(await connect(params.pop("model", scripted_model), tmp_path, client_capabilities, **params))
        return started[-1]

    yield start_one
    for each in started:
        await each.client.shutdown_session()
        await each.client.stop()


async def test_a_changed_setting_is_asked_for_and_in_force(start: Callable[..., Awaitable[Editor]]) -> None:
    editor = await start(capabilities())
    await editor.loaded()
    text, offset = split_at_cursor(RETURN)
    uri = editor.open(text)
    assert len(await editor.complete(uri, offset)) == 1
    editor.client.set_configuration(
        {"loracle": SETTINGS | {"completion": {"enabled": False}, "hover": {"enabled": False}}}
    )
    # Editors that are asked may send nothing with the notice.
    editor.client.workspace_did_change_configuration(types.DidChangeConfigurationParams(settings=None))

    async def is_off() -> bool:
        return await editor.complete(uri, offset) == []

    assert await eventually(editor, is_off)
    assert await editor.hover(uri, text.index("add")) is None


async def test_a_pushed_setting_is_in_force_and_those_of_others_are_ignored(
    start: Callable[..., Awaitable[Editor]],
) -> None:
    editor = await start(capabilities(configuration=False), initialization_options={"loracle": SETTINGS})
    await editor.loaded()
    text, offset = split_at_cursor(RETURN)
    uri = editor.open(text)
    push = editor.client.workspace_did_change_configuration
    push(types.DidChangeConfigurationParams(settings={"pylsp": {"enabled": True}}))
    assert len(await editor.complete(uri, offset)) == 1
    push(types.DidChangeConfigurationParams(settings={"loracle": {"completion": {"enabled": False}}, "pylsp": {}}))
    assert await editor.complete(uri, offset) == []
    push(types.DidChangeConfigurationParams(settings={"completion.enabled": True}))
    assert len(await editor.complete(uri, offset)) == 1
    assert (await editor.execute("loracle.status"))["settingsProblems"] == []


async def test_mistakes_are_named_once_from_wherever_they_come(
    start: Callable[..., Awaitable[Editor]], tmp_path: Path
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text("[tool.loracle]\nmodel = 'theirs'\ncompletion.debounce-ms = 'soon'\n")
    (tmp_path / "loracle").mkdir()
    (tmp_path / "loracle" / "config.toml").write_text("not TOML")
    folder = types.WorkspaceFolder(uri=project.as_uri(), name="project")
    editor = await start(
        capabilities(),
        workspace_folders=[folder],
        initialization_options={"completion": {"candidates": 0}},
        configuration=SETTINGS | {"modell": "x"},
    )
    await editor.loaded()
    (message,) = [message.message for message in editor.client.messages]
    for part in (
        "config.toml is not valid TOML",
        "loracle.model is ignored",
        'loracle.completion.debounceMs must be a whole number from 0 to 5000, not "soon"; 30 is used',
        "initializationOptions: loracle.completion.candidates",
        "the editor's settings: loracle.modell is not a setting and is ignored; did you mean model?",
    ):
        assert part in message
    assert len((await editor.execute("loracle.status"))["settingsProblems"]) == 5
    editor.client.set_configuration({"loracle": SETTINGS})
    editor.client.workspace_did_change_configuration(types.DidChangeConfigurationParams(settings=None))

    async def is_mended() -> bool:
        return len((await editor.execute("loracle.status"))["settingsProblems"]) == 4

    assert await eventually(editor, is_mended)
    assert len(editor.client.messages) == 1


async def test_the_command_line_wins_over_every_setting(
    start: Callable[..., Awaitable[Editor]], scripted_model: Path
) -> None:
    editor = await start(capabilities(), configuration={"model": "/no/such/model"})
    await editor.loaded()
    assert (await editor.execute("loracle.status"))["model"] == str(scripted_model)
    assert not editor.client.messages


async def test_loading_is_shown_where_the_editor_can_show_it(start: Callable[..., Awaitable[Editor]]) -> None:
    editor = await start(capabilities(progress=True))
    await editor.loaded()
    async with asyncio.timeout(WAIT_S):
        while [value.kind for values in editor.client.progress_reports.values() for value in values] != [
            "begin",
            "end",
        ]:
            await editor.client.wait_for_notification(types.PROGRESS)
    other = await start(capabilities(progress=False))
    await other.loaded()
    assert not other.client.progress_reports


async def test_an_editor_without_markdown_gets_plain_text(start: Callable[..., Awaitable[Editor]]) -> None:
    plain = capabilities()
    assert plain.text_document is not None
    plain.text_document.hover = types.HoverClientCapabilities(content_format=[types.MarkupKind.PlainText])
    editor = await start(plain)
    text, offset = split_at_cursor(CALL)
    hover = await editor.hover(editor.open(text), offset)
    assert hover is not None
    assert isinstance(hover.contents, types.MarkupContent)
    assert hover.contents.kind is types.MarkupKind.PlainText
