"""`textDocument/hover`: facts at once, and the model's sentence if it comes in time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lsprotocol import types

from server.lsp.protocol import guarded

if TYPE_CHECKING:
    from server.lsp.server import Server


@guarded(lambda: None)
async def hover(ls: Server, params: types.HoverParams) -> types.Hover | None:
    """What is known of the name under the mouse; null where that is nothing."""
    uri = params.text_document.uri
    document = ls.documents.find(uri)
    offset = document.offset_at(params.position) if document is not None else None
    if document is None or offset is None:
        return None
    snapshot = ls.documents.snapshot(document)
    settings = ls.session.settings.for_language(snapshot.language.id)
    if not settings.hover.enabled:
        return None
    version = document.version
    session = ls.session
    explanation = await session.explaining.hover(snapshot, offset, session.model, settings.hover, settings.exclude)
    if explanation is None or not explanation.markdown or document.version != version:
        return None
    return types.Hover(
        contents=types.MarkupContent(kind=_markup_kind(ls), value=explanation.markdown),
        range=document.range_of(explanation.start, explanation.end),
    )


def _markup_kind(ls: Server) -> types.MarkupKind:
    """Markdown, unless the editor says that it shows plain text alone."""
    text_document = ls.client_capabilities.text_document
    formats = text_document.hover.content_format if text_document and text_document.hover else None
    plain_only = formats is not None and len(formats) > 0 and types.MarkupKind.Markdown not in formats
    return types.MarkupKind.PlainText if plain_only else types.MarkupKind.Markdown
