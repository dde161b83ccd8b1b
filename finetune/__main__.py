"""`python -m finetune REPO` (`loracle-finetune`): teaches the model a repository, and proves that it helped."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib.util import find_spec

from finetune.excluded import excluded
from finetune.options import EXIT_ERROR, EXIT_INTERRUPTED, EXIT_PUBLISHED, Options, read_options
from finetune.progress import Display
from server.lm.errors import UserError

EXTRA = ("torch", "transformers", "peft", "matplotlib")


def main(arguments: list[str] | None = None) -> int:
    """The exit status, as the options' help tells it."""
    options = read_options(arguments)
    try:
        if options.action != "train":
            return _manage(options)
        options = replace(options, exclude=(*options.exclude, *excluded(options.repository)))
        missing = [name for name in EXTRA if find_spec(name) is None]
        if missing:
            raise UserError(f"{', '.join(missing)} not installed; run `pip install 'loracle[finetune]'`")
        from finetune.run import adapt

        return adapt(options, Display())
    except UserError as error:
        print(f"loracle-finetune: {error}", file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        print("loracle-finetune: interrupted; nothing has changed", file=sys.stderr)
        return EXIT_INTERRUPTED


def _manage(options: Options) -> int:
    """Lists, rolls back, exports or imports."""
    from server.lm.adapter_store import AdapterStore

    store = AdapterStore(options.repository)
    if options.action == "list":
        from finetune.listing import listed

        adapters = store.versions()
        print("\n".join(listed(adapters)) or f"no adapter of {options.repository}; `loracle-finetune` makes one")
    elif options.action == "rollback":
        print(f"{store.rollback()} is in force")
    elif options.file is not None and options.action == "export":
        store.export(options.file)
        print(f"written to {options.file}")
    elif options.file is not None:
        from finetune.base import open_base

        base = open_base(options.base)
        print(f"{store.import_(options.file, base.identity, base.weights)} is in force")
    return EXIT_PUBLISHED


if __name__ == "__main__":
    sys.exit(main())
