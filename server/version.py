"""The version of this package, also where it runs from its sources without having been installed."""

from importlib import metadata

NOT_INSTALLED = "not installed"


def version_of(distribution: str = "loracle") -> str:
    """The version of an installed distribution, `NOT_INSTALLED` where Python knows of none."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return NOT_INSTALLED
