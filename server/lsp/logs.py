"""Logs without source text: what the protocol library would write of the messages that it handles."""

from __future__ import annotations

import logging


def keep_source_out(root: logging.Logger) -> None:
    """Makes every handler of `root` drop what may hold a piece of a document.

    pygls logs whole messages at INFO, and at ERROR the parameters of those that failed.
    """
    logging.getLogger("pygls").setLevel(logging.WARNING)
    for handler in root.handlers:
        handler.addFilter(_without_arguments)


def _without_arguments(record: logging.LogRecord) -> bool:
    if record.name.startswith("pygls"):
        arguments = record.args if isinstance(record.args, tuple) else (record.args,) if record.args else ()
        record.args = tuple(argument if isinstance(argument, int) else "..." for argument in arguments)
        record.exc_info, record.exc_text = None, None
    return True
