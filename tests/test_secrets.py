"""Secrets leave a text, everything else stays."""

import ast
import random
import string

import pytest

from server.repository.secrets import entropy_bits, is_secret_path, scrub

# Put together here, so that no scanner of this repository takes a made-up key for a real one.
_RANDOM = random.Random(7)
LETTERS = string.ascii_letters + string.digits


def _drawn(n_chars: int, alphabet: str = LETTERS) -> str:
    return "1aB" + "".join(_RANDOM.choices(alphabet, k=n_chars - 3))


KEY_LINE = _drawn(64)
SECRETS = [
    ("cloud key", "AKIA" + "".join(_RANDOM.choices(string.ascii_uppercase, k=16)), 'KEY = "{}"\n'),
    ("cloud key", "AIza" + _drawn(35), "init({!r})\n"),
    ("service token", "ghp_" + _drawn(36), "clone('https://{}@github.com/a/b')\n"),
    ("service token", "glpat-" + _drawn(20), "x = '{}'\n"),
    ("service token", "xoxb-" + _drawn(24), "x = '{}'\n"),
    ("service token", "sk-" + _drawn(48), "# try {}\n"),
    ("service token", "sk_live_" + _drawn(24), "charge('{}')\n"),
    ("web token", "eyJ" + _drawn(20) + "." + _drawn(30) + "." + _drawn(20), "header = 'Bearer {}'\n"),
    ("password in address", "pa55-" + _drawn(8), "url = 'postgres://app:{}@db:5432/shop'\n"),
    ("named secret", "Tr0ub4dor&3", "password = '{}'\n"),
    ("named secret", _drawn(32, string.hexdigits[:16]), 'api_key: str = "{}"\n'),
    ("named secret", _drawn(24), 'os.environ["API_TOKEN"] = "{}"\n'),
    ("named secret", _drawn(24), "config = {{'client_secret': '{}'}}\n"),
    ("named secret", _drawn(40), "SECRET_KEY={}\n"),
]


@pytest.mark.parametrize("kind, secret, line", SECRETS)
def test_a_secret_is_cut_and_nothing_else(kind, secret, line):
    text = "import os\n\n" + line.format(secret) + "value = 1\n"
    scrubbed = scrub(text)
    assert scrubbed.text == text.replace(secret, "")
    assert [finding.kind for finding in scrubbed.findings] == [kind]


@pytest.mark.parametrize("kind, secret, line", SECRETS)
def test_a_finding_says_where_the_secret_stood(kind, secret, line):
    text = "import os\n" + line.format(secret)
    (finding,) = scrub(text).findings
    assert text[finding.offset : finding.offset + finding.n_chars] == secret


@pytest.mark.parametrize("text", [
    "password = getpass()\n",
    "password = 'password'\n",
    "token = 'some_identifier_name_2'\n",
    "token_type = 'urn:ietf:params:oauth:token-type:x509'\n",
    "secret = self.secrets_by_id2.current\n",
    "api_key = 'your-api-key-goes-here-12345'\n",
    "password = '{password1}'\n",
    "url = 'http://user:pass@host/'\n",
    "url = f'http://{user}:{password}@host/'\n",
    "if '-----BEGIN RSA PRIVATE KEY-----' in text and\\\n    '-----END RSA PRIVATE KEY-----' in text: pass\n",
    "tokens = ['a', 'b', 'c']\n",
    "digest = 'd41d8cd98f00b204e9800998ecf8427e'\n",
    "",
])  # fmt: skip
def test_what_is_no_secret_stays(text):
    assert scrub(text).text == text
    assert scrub(text).findings == ()


@pytest.mark.parametrize("source", [
    f'KEY = """-----BEGIN PRIVATE KEY-----\n{KEY_LINE}\n{KEY_LINE}\n-----END PRIVATE KEY-----"""\nx = 1\n',
    f'KEY = (\n    "-----BEGIN RSA PRIVATE KEY-----\\n"\n    "{KEY_LINE}\\n"\n    "-----END RSA PRIVATE KEY-----"\n)\n',
    f"KEY = '-----BEGIN EC PRIVATE KEY-----\\n{KEY_LINE}\\n-----END EC PRIVATE KEY-----'\n",
])  # fmt: skip
def test_a_private_key_loses_its_body_and_the_code_still_parses(source):
    scrubbed = scrub(source)
    assert KEY_LINE[:12] not in scrubbed.text
    assert "BEGIN" in scrubbed.text
    assert "END" in scrubbed.text
    ast.parse(scrubbed.text)


def test_scrubbing_twice_finds_nothing_new():
    text = "".join(line.format(secret) for _, secret, line in SECRETS)
    once = scrub(text)
    assert len(once.findings) == len(SECRETS)
    assert scrub(once.text).findings == ()


def test_findings_do_not_hold_the_secret():
    _, secret, line = SECRETS[0]
    assert secret not in repr(scrub(line.format(secret)).findings)


@pytest.mark.parametrize("path", [
    ".env", "deploy/.env.production", "certs/server.key", "a/b/id_rsa", "home\\.ssh\\config", ".npmrc",
    "infra/prod.tfvars", "config/secrets.yml", "CREDENTIALS.JSON", ".docker/config.json",
])  # fmt: skip
def test_files_that_hold_secrets_are_known_by_name(path):
    assert is_secret_path(path)


@pytest.mark.parametrize("path", [
    ".env.example", "src/environment.py", "keys.py", "secrets.py", "id_rsa.pub", "docs/credentials.md",
    "config.json", "a/env/x.py",
])  # fmt: skip
def test_ordinary_files_are_not_secret(path):
    assert not is_secret_path(path)


def test_entropy_is_counted_in_bits():
    assert entropy_bits("") == 0.0
    assert entropy_bits("aaaa") == 0.0
    assert entropy_bits("abcd") == pytest.approx(2.0)
