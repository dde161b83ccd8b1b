"""`textDocument/inlineCompletion`: from a protocol request to a question, and from offers to items."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from lsprotocol import types

from server.lsp.protocol import guarded
from server.question import Question

if TYPE_CHECKING:
    from server.lsp.documents import OpenDocument
    from server.lsp.server import Server
    from server.suggestion_cache import Offer

ACCEPTED = "loracle.accepted"

# Not empty: an empty object is nil in Emacs Lisp, and without options pygls does not advertise the feature.
OPTIONS = types.InlineCompletionOptions(work_done_progress=False)


def no_items() -> types.InlineCompletionList:
    """The answer when there is nothing to offer; null would leave outdated ghost text standing in Neovim."""
    return types.InlineCompletionList(items=[])


@guarded(no_items)
async def inline_completion(ls: Server, params: types.InlineCompletionParams) -> types.InlineCompletionList:
    """One item on automatic trigger, several when a key asked for them."""
    asked_at = time.monotonic()
    document = ls.documents.find(params.text_document.uri)
    offset = document.offset_at(params.position) if document is not None else None
    if document is None or offset is None:
        return no_items()
    selected = params.context.selected_completion_info
    question = Question(
        document=ls.documents.snapshot(document),
        offset=offset,
        invoked=params.context.trigger_kind is types.InlineCompletionTriggerKind.Invoked,
        asked_at=asked_at,
        changed_at=document.changed_at,
        selected_text=selected.text if selected is not None else "",
        selected_start=document.offset_at(selected.range.start) if selected is not None else None,
    )
    version = document.version
    offers = await ls.session.suggest(question)
    if ls.documents.find(document.uri) is not document or document.version != version:
        return no_items()
    return types.InlineCompletionList(items=[_item(document, offer) for offer in offers])


def _item(document: OpenDocument, offer: Offer) -> types.InlineCompletionItem:
    suggestion = offer.suggestion
    return types.InlineCompletionItem(
        insert_text=suggestion.text,
        range=document.range_of(suggestion.start, suggestion.end),
        command=types.Command(title="Count as accepted", command=ACCEPTED, arguments=[offer.id]),
    )
