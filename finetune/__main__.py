"""The command `loracle-finetune`. Adapting to one repository is not part of this release; it says so."""

from __future__ import annotations

import argparse
import sys

EXIT_USAGE = 2
NOT_YET = (
    "loracle-finetune: adapting the model to a repository comes with a later release; nothing was done. "
    "What this release can train is a base model: python -P -m finetune.pretrain --help"
)


def main() -> int:
    """The exit status: 2, whatever the arguments, apart from `--help`."""
    parser = argparse.ArgumentParser(prog="loracle-finetune", description=NOT_YET.partition(": ")[2])
    parser.add_argument("repository", nargs="?", help="folder to adapt to (not used yet)")
    parser.parse_known_args()
    print(NOT_YET, file=sys.stderr)
    return EXIT_USAGE


if __name__ == "__main__":
    sys.exit(main())
