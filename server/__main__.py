"""The command line: the language server, and in a terminal `complete`, `explain` and `doctor`.

Reads arguments and calls; everything heavy is imported by what is called, so that the server starts fast.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
from pathlib import Path
from typing import Any

from server.lm.errors import UserError
from server.places import Place, parse_place
from server.version import version_of

EXIT_FINE, EXIT_PROBLEM, EXIT_INTERRUPTED = 0, 1, 130  # 2, wrong usage, is argparse's
LOG_LEVELS = ("debug", "info", "warning", "error")


def main(arguments: list[str] | None = None) -> int:
    """Does what `arguments` say (None: those of the process); the exit status."""
    options = parser().parse_args(arguments)
    set_up_logging(options.log_file, options.log_level)
    try:
        return run(options)
    except UserError as error:
        print(f"loracle: {error}", file=sys.stderr)
        return EXIT_PROBLEM
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # `loracle explain ... | head -1`: whoever read has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else the interpreter complains when it flushes at its end
        return EXIT_PROBLEM


def run(options: argparse.Namespace) -> int:
    """Runs one command; the exit status."""
    chosen = {name: value for name in MODEL_OPTIONS if (value := getattr(options, name)) is not None}
    if options.command is None:
        return serve(options, chosen)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Some terminals cannot show all characters; that is no reason to fail.
        sys.stdout.reconfigure(errors="backslashreplace")
    is_fine = True
    if options.command == "doctor":
        from server.doctor import examine

        is_fine = examine(chosen, as_json=options.json)
    else:
        from server import terminal

        command = terminal.print_completion if options.command == "complete" else terminal.print_explanation
        command(options.place, chosen, as_json=options.json)
    sys.stdout.flush()
    return EXIT_FINE if is_fine else EXIT_PROBLEM


def serve(options: argparse.Namespace, chosen: dict[str, Any]) -> int:
    """The language server, until its client leaves."""
    from server import free_memory

    free_memory.limit_pools()  # before there are threads
    from server.lsp.server import ServeOptions, serve

    return serve(
        ServeOptions(
            transport="tcp" if options.tcp else "ws" if options.ws else "stdio",
            host=options.host,
            port=options.port,
            log_file=options.log_file,
            log_level=options.log_level,
            check_parent_process=options.check_parent_process,
            client_process_id=options.clientProcessId,
            **chosen,
        )
    )


def parser() -> argparse.ArgumentParser:
    """All arguments. What chooses the model and the log may stand before a command or after it."""
    result = argparse.ArgumentParser(
        prog="loracle",
        description="A language server that completes and explains code with a small model on your own machine. "
        "Without a command it serves one editor on stdin and stdout.",
    )
    result.add_argument("--version", nargs=0, action=PrintVersion, help="print the version and end")
    transport = result.add_mutually_exclusive_group()
    transport.add_argument("--stdio", action="store_true", help="serve on stdin and stdout, as without it")
    transport.add_argument("--tcp", action="store_true", help="serve one client on a TCP port")
    transport.add_argument("--ws", action="store_true", help="serve one client on a WebSocket (needs `pygls[ws]`)")
    result.add_argument("--host", default="127.0.0.1", help="address for --tcp and --ws (default: %(default)s)")
    result.add_argument("--port", type=port, default=2087, metavar="N", help="port for them (default: %(default)s)")
    result.add_argument("--check-parent-process", action="store_true", help="end when the editor's process has ended")
    # VS Code's client library appends it.
    result.add_argument("--clientProcessId", type=int, help=argparse.SUPPRESS)
    add_shared_options(result)

    commands = result.add_subparsers(dest="command", metavar="COMMAND")
    complete = commands.add_parser("complete", help="print one completion", description="Prints one completion.")
    complete.add_argument("place", type=place, metavar="FILE:LINE:COLUMN", help="counted from 1, in characters")
    explain = commands.add_parser("explain", help="print an explanation", description="Prints an explanation.")
    explain.add_argument("place", type=line_or_place, metavar="FILE:LINE[:COLUMN]", help="counted from 1")
    doctor = commands.add_parser("doctor", help="check this installation", description="Checks this installation.")
    for command in (complete, explain, doctor):
        command.add_argument("--json", action="store_true", help="print one JSON object")
        # Absent behind the command, an option must not undo the one in front of it.
        add_shared_options(command, default=argparse.SUPPRESS)
    return result


MODEL_OPTIONS = ("model", "adapter", "engine", "threads")


def add_shared_options(result: argparse.ArgumentParser, default: str | None = None) -> None:
    """What chooses the model, and the log; None leaves the choice to the settings."""
    add = result.add_argument
    engines = ("auto", "onnx", "torch")
    add("--model", default=default, help="`default`, a checkpoint folder, or a name in the local hub cache")
    add(
        "--adapter",
        default=default,
        metavar="auto|off|DIR",
        help="the workspace's own, none, or a folder",
    )
    add("--engine", default=default, choices=engines, help="what runs the model; torch is the slow reference")
    add("--threads", default=default, type=threads, metavar="N", help="for the model (default: cores less one)")
    add("--log-file", default=default, type=Path, metavar="FILE", help="write the log there instead of to stderr")
    add("--log-level", default=default or "warning", type=str.lower, choices=LOG_LEVELS, help="default: warning")


class PrintVersion(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(f"loracle {version_of()}")
        parser.exit()


def place(text: str) -> Place:
    """FILE:LINE:COLUMN."""
    found = parse_place(text)
    if found is None or found.column is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not FILE:LINE:COLUMN, such as src/app.py:12:9")
    return found


def line_or_place(text: str) -> Place:
    """FILE:LINE or FILE:LINE:COLUMN."""
    found = parse_place(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not FILE:LINE or FILE:LINE:COLUMN, such as src/app.py:12")
    return found


def port(text: str) -> int:
    return number_between(text, 0, 65_535)


def threads(text: str) -> int:
    return number_between(text, 1, 256)


def number_between(text: str, low: int, high: int) -> int:
    if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from {low} to {high}")
    return int(text)


def set_up_logging(file: Path | None, level: str) -> None:
    """Logs to stderr, or to a file that only its owner can read."""
    handler: logging.Handler = logging.StreamHandler()
    if file is not None:
        try:
            file.touch(mode=0o600)
            handler = logging.FileHandler(file, encoding="utf-8")
        except OSError as error:
            print(f"loracle: cannot write the log {file}: {error.strerror}; logging to stderr", file=sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


if __name__ == "__main__":
    sys.exit(main())
