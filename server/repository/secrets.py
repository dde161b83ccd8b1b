"""Secret text cut out of sources, so that no model learns it and no index offers it.

Knows the shapes of common keys, and assignments to names such as `password`. Findings say kind and
place, never the secret. Knows nothing of files: callers ask `is_secret_path` before they read.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import translate
from typing import Literal

Kind = Literal["private key", "cloud key", "service token", "web token", "password in address", "named secret"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One secret that was cut: `offset` and `n_chars` in the original text."""

    kind: Kind
    offset: int
    n_chars: int


@dataclass(frozen=True, slots=True)
class Scrubbed:
    """A text without its secrets, and what was cut, in order of place."""

    text: str
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class _Shape:
    kind: Kind
    hints: tuple[str, ...]  # one of these is in every match: a cheap test before the pattern
    pattern: re.Pattern[str]  # the secret is group 1


_SHAPES = (
    # The body must look like a key: code that only speaks of the marks has no such run of letters and digits.
    _Shape(
        "private key",
        ("PRIVATE KEY",),
        re.compile(
            r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"
            r"(?=(?:(?!-----).){0,400}?[A-Za-z0-9+/]{24})((?:(?!-----)[^()\[\]{}]){40,20000})",
            re.DOTALL,
        ),
    ),
    _Shape(
        "cloud key",
        ("AKIA", "ASIA", "ABIA", "ACCA"),
        re.compile(r"(?<![A-Za-z0-9])((?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16})(?![A-Za-z0-9])"),
    ),
    _Shape("cloud key", ("AIza",), re.compile(r"(?<![\w-])(AIza[\w-]{35})(?![\w-])")),
    _Shape("cloud key", ("GOCSPX-",), re.compile(r"(GOCSPX-[\w-]{28})")),
    _Shape("cloud key", ("AccountKey=",), re.compile(r"AccountKey=([A-Za-z0-9+/]{60,}={0,2})")),
    _Shape(
        "service token", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), re.compile(r"(?<!\w)(gh[pousr]_[A-Za-z0-9]{36,255})")
    ),
    _Shape("service token", ("github_pat_",), re.compile(r"(github_pat_\w{22,255})")),
    _Shape("service token", ("glpat-",), re.compile(r"(glpat-[\w-]{20,})")),
    _Shape("service token", ("xox", "xapp-"), re.compile(r"(?<!\w)((?:xox[abeoprs]|xapp)-[\w-]{10,})")),
    _Shape("service token", ("hooks.slack.com",), re.compile(r"hooks\.slack\.com/services/([A-Za-z0-9_/]{20,})")),
    _Shape("service token", ("sk-",), re.compile(r"(?<![\w-])(sk-(?:ant-|proj-|or-)?(?=[\w-]*\d)[\w-]{20,})")),
    _Shape("service token", ("_live_",), re.compile(r"(?<!\w)([srp]k_live_[A-Za-z0-9]{16,})")),
    _Shape("service token", ("hf_",), re.compile(r"(?<!\w)(hf_[A-Za-z]{30,40})(?!\w)")),
    _Shape("service token", ("npm_",), re.compile(r"(?<!\w)(npm_[A-Za-z0-9]{36})(?!\w)")),
    _Shape("service token", ("pypi-Ag",), re.compile(r"(pypi-Ag[\w-]{50,})")),
    _Shape("service token", ("SG.",), re.compile(r"(?<!\w)(SG\.[\w-]{16,}\.[\w-]{16,})")),
    _Shape("web token", ("eyJ",), re.compile(r"(?<!\w)(eyJ[\w-]{10,}\.[\w-]{10,}(?:\.[\w-]*)?)")),
    _Shape(
        "password in address",
        ("://",),
        re.compile(r"://[^\s:/@\"'`<>{}$%()\[\]]{1,64}:([^\s:/@\"'`<>{}$%()\[\]]{3,128})@"),
    ),
)

_KEY_TEXT = re.compile(r"(?<!\\)[A-Za-z0-9+/]{4,}={0,2}")

# fmt: off
_WORDS = (
    "passwd", "password", "passphrase", "pwd", "secret", "token", "api_key", "api-key", "apikey",
    "access_key", "accesskey", "auth_key", "authkey", "private_key", "privatekey", "client_key", "credential",
)
# fmt: on
_NAMES = "|".join(_WORDS)
# What tutorials and tests put where a password goes: nobody's secret.
_TAUGHT_PASSWORDS = frozenset(
    {"pass", "password", "passwd", "pwd", "pw", "secret", "test", "admin", "user", "guest", "foo", "bar", "postgres"}
)
_QUOTED = re.compile(
    rf"(?P<name>{_NAMES})[\w\-]{{0,24}}(?:[\"']?\])?[\"']?\s{{0,4}}(?::\s*[\w.\[\], |]{{1,40}}=|:=|=>|[:=,])\s{{0,4}}"
    rf"[rbu]?(?P<quote>[\"'])(?P<value>[^\"'\n\\]{{8,256}})(?P=quote)",
    re.IGNORECASE,
)
_BARE = re.compile(
    rf"(?P<name>{_NAMES})[\w\-]{{0,24}}[ \t]{{0,4}}[:=][ \t]{{0,4}}"
    r"(?P<value>[A-Za-z0-9+/_\-]{16,256}={0,2})[ \t]*$",
    re.IGNORECASE | re.MULTILINE,
)
_PLACEHOLDER = re.compile(
    r"example|placeholder|change.?me|your|dummy|sample|redacted|x{4,}|\*{3,}|\.\.\.|[<>{}$%()\s]|://|^urn:",
    re.IGNORECASE,
)
_JOINED_WORDS = re.compile(r"[A-Za-z]+\d{0,2}(?:[._\-:/][A-Za-z]*\d{0,2})+")


def scrub(text: str) -> Scrubbed:
    """The text with every secret cut out, quotes and the lines around it left in place."""
    found = sorted(_find(text), key=lambda finding: (finding.offset, -finding.n_chars))
    kept: list[Finding] = []
    parts: list[str] = []
    end = 0
    for finding in found:
        if finding.offset < end:
            continue
        parts.append(text[end : finding.offset])
        end = finding.offset + finding.n_chars
        if finding.kind == "private key":  # its lines may be many string literals: what holds them together stays
            parts.append(_KEY_TEXT.sub("", text[finding.offset : end]))
        kept.append(finding)
    if not kept:
        return Scrubbed(text, ())
    parts.append(text[end:])
    return Scrubbed("".join(parts), tuple(kept))


def entropy_bits(value: str) -> float:
    """Shannon entropy per character, in bits; 0.0 for an empty string."""
    n_chars = len(value)
    return -sum(count / n_chars * math.log2(count / n_chars) for count in Counter(value).values()) if n_chars else 0.0


def is_secret_path(path: str) -> bool:
    """True for files that hold keys or passwords by their name: `.env`, private keys, credential stores.

    `path` may have folders, with forward slashes or backslashes. Templates such as `.env.example` are not secret.
    """
    parts = path.replace("\\", "/").lower().split("/")
    name = parts[-1]
    if name.endswith((".example", ".sample", ".template", ".dist", ".pub")):
        return False
    if not _SECRET_FOLDERS.isdisjoint(parts[:-1]):
        return True
    return _SECRET_NAME.fullmatch(name) is not None or any("/".join(parts).endswith(tail) for tail in _SECRET_TAILS)


_SECRET_FOLDERS = frozenset({".ssh", ".gnupg", ".aws", ".azure", ".kube"})
_SECRET_TAILS = (".docker/config.json", ".config/gcloud/application_default_credentials.json")
# fmt: off
_SECRET_NAMES = (
    ".env", ".env.*", "*.env", ".envrc", "*.pem", "*.key", "*.p12", "*.pfx", "*.p8", "*.jks", "*.keystore",
    "*.kdb", "*.kdbx", "*.ppk", "*.ovpn", "*.gpg", "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", ".netrc",
    "_netrc", ".pgpass", ".my.cnf", ".npmrc", ".pypirc", ".htpasswd", ".git-credentials", "credentials",
    "credentials.json", "credentials.y*ml", "client_secret*.json", "service-account*.json",
    "service_account*.json", "secrets.json", "secrets.y*ml", "secrets.toml", "secrets.ini", "*.tfvars",
    "*.tfstate", "*.tfstate.*", ".vault_pass*", "kubeconfig", ".dockercfg", ".s3cfg", ".boto",
)
# fmt: on
# One pattern for all: a repository has a hundred thousand names to ask about.
_SECRET_NAME = re.compile("|".join(map(translate, _SECRET_NAMES)))


def _find(text: str) -> Iterator[Finding]:
    for shape in _SHAPES:
        if any(hint in text for hint in shape.hints):
            for match in shape.pattern.finditer(text):
                if match.group(1).strip() and match.group(1).lower() not in _TAUGHT_PASSWORDS:
                    yield Finding(shape.kind, match.start(1), len(match.group(1)))
    for match in _at_names(text, _QUOTED):
        password = match["name"].lower().startswith(("passw", "pwd", "passphrase"))
        if _is_password(match["value"]) if password else _is_random(match["value"]):
            yield Finding("named secret", match.start("value"), len(match["value"]))
    for match in _at_names(text, _BARE):
        value = match["value"]
        mixed = any(c.islower() for c in value) and any(c.isupper() for c in value)
        if mixed and _is_random(value):
            yield Finding("named secret", match.start("value"), len(value))


def _at_names(text: str, pattern: re.Pattern[str]) -> Iterator[re.Match[str]]:
    """Matches of a pattern that begins with a name; plain search finds the names, ten times faster than the pattern."""
    lowered = text.lower()
    if len(lowered) != len(text):  # a few characters outside ASCII grow when lowered
        lowered = text
    for word in _WORDS:
        offset = lowered.find(word)
        while offset >= 0:
            match = pattern.match(text, offset)
            if match:
                yield match
            offset = lowered.find(word, offset + len(word))


def _is_random(value: str) -> bool:
    """True for what a generator of keys writes: long, with digits, no words, high entropy."""
    if len(value) < 16 or not any(c.isdigit() for c in value):
        return False
    if _PLACEHOLDER.search(value) or _JOINED_WORDS.fullmatch(value):
        return False
    # Sixteen hexadecimal digits drawn at random rarely have less than three bits a character.
    return entropy_bits(value) >= (2.9 if _is_hex(value) else 3.5)


def _is_password(value: str) -> bool:
    """True for what a person might really use: letters with digits or signs, no blanks, no placeholder."""
    if _PLACEHOLDER.search(value) or _JOINED_WORDS.fullmatch(value) or not any(c.isalpha() for c in value):
        return False
    return any(c.isdigit() for c in value) or any(c in "!@#^&*?+=~|" for c in value)


def _is_hex(value: str) -> bool:
    return all(c in "0123456789abcdefABCDEF-" for c in value)
