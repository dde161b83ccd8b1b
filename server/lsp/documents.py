"""The open documents: pygls' store with our own texts in it, and immutable snapshots for other threads.

Deliberately replaces the library's `TextDocument` as a whole: its line ends, its positions at the end of a text and its
edits behind a form feed or U+2028 are wrong, and it splits the whole text at every look.
"""

from __future__ import annotations

import os
import time
from typing import cast
from urllib.parse import unquote, urlsplit

from lsprotocol import types
from pygls.uris import to_fs_path
from pygls.workspace import TextDocument, Workspace

from server.lm.context import Document
from server.lm.languages import Language, language_for
from server.lsp.positions import PositionEncoding, TextBuffer

MAX_READ_BYTES = 10_000_000


class OpenDocument:
    """A text that the editor owns while it is open. Changes with every didChange: take a snapshot before an await."""

    def __init__(self, uri: str, text: str, version: int | None, language_id: str, encoding: PositionEncoding) -> None:
        self.uri = uri
        self.version = version
        self.language: Language = language_for(language_id, uri)
        self.changed_at = 0.0  # time.monotonic() of the last edit; 0.0 before the first
        self.last_edit_end: int | None = None  # the offset behind the last edit, where the cursor likely is
        self._buffer = TextBuffer(text, encoding)

    @property
    def text(self) -> str:
        """The whole text, with the line ends that the editor sent."""
        return self._buffer.text

    def apply_change(self, change: types.TextDocumentContentChangeEvent) -> None:
        """One change event, with a range or of the whole text."""
        self.changed_at = time.monotonic()
        if isinstance(change, types.TextDocumentContentChangePartial):
            start, end = change.range.start, change.range.end
            self.last_edit_end = self._buffer.edit(
                (start.line, start.character), (end.line, end.character), change.text
            )
        else:
            self._buffer = TextBuffer(change.text, self._buffer.encoding)
            self.last_edit_end = None

    def offset_at(self, position: types.Position) -> int | None:
        """Index into `text`; past the end of a line is its end, a line that does not exist is None."""
        return self._buffer.offset_at(position.line, position.character)

    def range_of(self, start: int, end: int) -> types.Range:
        """The protocol's range for two offsets into `text`."""
        first, last = self._buffer.position_at(start), self._buffer.position_at(end)
        return types.Range(
            start=types.Position(line=first[0], character=first[1]), end=types.Position(line=last[0], character=last[1])
        )


class Documents(Workspace):
    """pygls' workspace with `OpenDocument`s in it."""

    def __init__(self, old: Workspace) -> None:
        """Takes the place of the empty workspace that pygls makes while it answers `initialize`."""
        super().__init__(old.root_uri, old._sync_kind, list(old.folders.values()), old.position_encoding)

    def find(self, uri: str) -> OpenDocument | None:
        """The open document of a uri; None for one that the editor has not opened."""
        return cast("OpenDocument | None", self._text_documents.get(unquote(uri)))

    def read(self, uri: str) -> OpenDocument | None:
        """A file that is not open, as it is on disk; None if it is none, too large, not UTF-8 or in no workspace."""
        path = self.real_path(uri)
        try:
            if path is None or not os.path.isfile(path) or os.path.getsize(path) > MAX_READ_BYTES:
                return None
            with open(path, encoding="utf-8", newline="") as file:
                text = file.read()
        except (OSError, ValueError):  # ValueError: not UTF-8, or no path at all
            return None
        return cast("OpenDocument", self._create_text_document(uri, text))

    def real_path(self, uri: str) -> str | None:
        """Where a file lies behind all links; None if that is in no workspace folder."""
        path = to_fs_path(uri)
        try:
            real = os.path.realpath(path) if path else ""
            inside = any(os.path.commonpath((root, real)) == root for root in map(os.path.realpath, self.roots()))
        except ValueError:  # a NUL, or another drive
            return None
        return real if inside else None

    def snapshot(self, document: OpenDocument) -> Document:
        """What the pipelines take: the text as it is now, under its path in the workspace."""
        return Document(document.uri, self.path_of(document.uri), document.language, document.text)

    def path_of(self, uri: str) -> str:
        """The path relative to the innermost workspace folder that holds it, else in full; parts separated by "/"."""
        path = _slashes(_path_in(uri))
        roots = sorted((f"{root.rstrip('/')}/" for root in self.roots()), key=len, reverse=True)
        return next((path.removeprefix(root) for root in roots if path.startswith(root)), path)

    def roots(self) -> list[str]:
        """The workspace folders as file system paths; the first is the main one."""
        uris = [folder.uri for folder in self.folders.values()] or ([self.root_uri] if self.root_uri else [])
        return [_slashes(path) for path in map(to_fs_path, uris) if path]

    def update_text_document(
        self, text_doc: types.VersionedTextDocumentIdentifier, change: types.TextDocumentContentChangeEvent
    ) -> None:
        """As in pygls, but a change to a document that is not open is ignored."""
        if self.find(text_doc.uri) is not None:
            super().update_text_document(text_doc, change)

    def _create_text_document(
        self, doc_uri: str, source: str | None = None, version: int | None = None, language_id: str | None = None
    ) -> TextDocument:
        # The library touches nothing of a document but its version and `apply_change`.
        encoding = cast("PositionEncoding", getattr(self.position_encoding, "value", self.position_encoding))
        return cast("TextDocument", OpenDocument(doc_uri, source or "", version, language_id or "", encoding))


def _path_in(uri: str) -> str:
    """The path that a uri names, without what comes behind it: a query, or the cell of a notebook."""
    try:
        return to_fs_path(uri) or unquote(urlsplit(uri).path)
    except ValueError:  # not a uri
        return unquote(uri)


def _slashes(path: str) -> str:
    return path.replace("\\", "/")
