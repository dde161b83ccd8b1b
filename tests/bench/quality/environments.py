"""What a package's repository would have installed: the packages it needs, pinned, in an environment in the cache.

Only read, never run: the server looks for the packages that a repository imports in `VIRTUAL_ENV`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

from tests.bench.repositories import FetchError, Package, cache_folder

_TIMEOUT_S = 600
SITE_PACKAGES = Path("lib") / "python3.11" / "site-packages"

# What each imports, as pip resolved it on 2026-11-23; libraries that are mostly compiled code are left out.
NEEDED = {
    "tweepy": "oauthlib==3.3.1 requests==2.34.2 requests-oauthlib==2.0.0 urllib3==2.8.0",
    "fabric": "decorator==5.3.1 deprecated==1.3.1 invoke==2.2.1 paramiko==5.1.0",
    "pychromecast": "casttube==0.2.1 protobuf==7.36.2 zeroconf==0.154.0 requests==2.34.2",
    "mitmproxy": (
        "aioquic==1.2.0 asgiref==3.8.1 cryptography==44.0.3 flask==3.1.0 h11==0.14.0 h2==4.1.0 hyperframe==6.0.1 "
        "kaitaistruct==0.10 ldap3==2.9.1 msgpack==1.1.0 passlib==1.7.4 pyopenssl==24.3.0 pyparsing==3.2.0 "
        "ruamel.yaml==0.18.6 sortedcontainers==2.4.0 tornado==6.4.2 urwid==2.6.16 wsproto==1.2.0 hpack==4.2.0"
    ),
    "streamlink": (
        "requests==2.34.2 urllib3==2.8.0 trio==0.35.0 trio-websocket==0.12.2 websocket-client==1.9.2 isodate==0.7.2 "
        "pycountry==26.2.16 certifi==2026.10.18 pycryptodome==4.4.0"
    ),
    "beets": (
        "confuse==2.3.0 mediafile==0.17.0 requests==2.34.2 requests-ratelimiter==0.10.0 unidecode==1.4.0 "
        "pyyaml==6.0.3 filetype==1.2.0 mutagen==1.48.1 jellyfish==1.3.0"
    ),
    "soco": "appdirs==1.4.4 ifaddr==0.2.0 requests==2.34.2 xmltodict==1.0.4",
    "nikola": (
        "babel==2.18.0 blinker==1.9.0 docutils==0.23 doit==0.37.0 mako==1.4.3 markdown==3.11.3 natsort==8.4.0 "
        "piexif==1.1.3 pygments==2.21.0 python-dateutil==4.0.0 requests==2.34.2 unidecode==1.4.0"
    ),
}


def environment_of(package: Package) -> Path | None:
    """The environment's folder, installed unless it is there already; None for a package that needs nothing.

    FetchError when it cannot be installed.
    """
    needed = NEEDED.get(package.name)
    if needed is None:
        return None
    digest = sha256(needed.encode()).hexdigest()[:12]
    folder = cache_folder() / "environments" / f"{package.name}-{digest}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(dir=folder.parent))
        try:
            (aside / "pyvenv.cfg").write_text("home = nowhere\n", encoding="utf-8")
            _install(package, needed.split(), aside / SITE_PACKAGES)
            os.replace(aside, folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return folder


def _install(package: Package, needed: list[str], target: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--prefer-binary"]
    try:
        done = subprocess.run(
            [*command, "--target", str(target), *needed], capture_output=True, text=True, timeout=_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        raise FetchError(f"{package}: its dependencies were not installed within {_TIMEOUT_S} s") from None
    if done.returncode:
        says = [line.strip() for line in done.stderr.split("\n") if line.strip()]
        raise FetchError(f"{package}: its dependencies were not installed: {says[-1] if says else 'no reason given'}")
