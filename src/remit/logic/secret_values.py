"""Tells a secret from other texts in configurations, by what it looks like: a known format, or randomness under a name that expects it.

Rules: a name alone is nothing; ``${VAR}``, an empty or a made-up value is nothing, whatever it is called. What is longer than can be
looked at is looked at in part. Left out: weak passwords that look like words (but for those in addresses), and where texts come from.
"""

from __future__ import annotations

import base64
import binascii
import re
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from remit.logic.detectors import credential_kinds
from remit.model.scanning import Dated

if TYPE_CHECKING:
    from collections.abc import Callable

TEXT_CHARACTERS_MAX = 65_536
RANDOM, PASSWORD, ADDRESS = "high-entropy value", "password in an address", "address that opens by itself"
_FORMATS = (
    ("Anthropic API key", re.compile(r"\bsk-ant-[a-z0-9]+-[A-Za-z0-9_-]{20,}")),
    ("OpenAI API key", re.compile(r"\bsk-(?:proj|svcacct|admin)-[A-Za-z0-9_-]{20,}|\bsk-[A-Za-z0-9]{40,}\b")),
    ("GitHub token", re.compile(r"\bgithub_pat_[A-Za-z0-9_]{22,}")),
    ("Google API key", re.compile(r"\bAIza[A-Za-z0-9_-]{35}\b")),
    ("Google OAuth client secret", re.compile(r"\bGOCSPX-[A-Za-z0-9_-]{20,}")),
    ("Hugging Face token", re.compile(r"\bhf_[A-Za-z0-9]{30,}\b")),
    ("Slack token", re.compile(r"\bxapp-\d-[A-Z0-9]+-\d+-[a-z0-9]{20,}|\bxoxe(?:\.xox[bp])?-\d-[A-Za-z0-9]{20,}")),
    ("Notion token", re.compile(r"\b(?:ntn_|secret_)[A-Za-z0-9]{40,}\b")),
    ("Linear API key", re.compile(r"\blin_(?:api|oauth)_[A-Za-z0-9]{32,}\b")),
    ("Databricks token", re.compile(r"\bdapi[a-f0-9]{32}\b")),
    ("DigitalOcean token", re.compile(r"\bdo[opr]_v1_[a-f0-9]{64}\b")),
    ("Vault token", re.compile(r"\bhv[sbr]\.[A-Za-z0-9_-]{24,}")),
    ("Supabase token", re.compile(r"\bsb(?:p|_secret)_[A-Za-z0-9_]{20,}")),
    ("Groq API key", re.compile(r"\bgsk_[A-Za-z0-9]{40,}\b")),
    ("Tavily API key", re.compile(r"\btvly-(?:dev-|prod-)?[A-Za-z0-9]{20,}")),
    ("Shopify token", re.compile(r"\bshp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}\b")),
    ("Azure shared access signature", re.compile(r"(?i)[?&]sig=[A-Za-z0-9%/+=]{40,}")),
)
_NOT_REAL = re.compile(
    r"(?i)example|change[-_ ]?me|your[-_ ]|placeholder|redacted|dummy|x{4,}|\*{3,}|\.{3}|…|<[^>]*>|0{10,}|1234567|abcdefg"
)
_MADE_UP = frozenset({"password", "passwd", "pass", "secret", "pw", "pwd", "mypassword"})  # in addresses that show the form
_REFERENCE = re.compile(
    r"\$\{[^}]*\}|\$\([^)]*\)|\$[A-Za-z_]\w*|%[A-Za-z_]\w*%|\{\{.*\}\}|\{[a-z-]+:[^}]*\}|(?:op|vault|aws-sm|gcp-sm|keychain|env|file):.*|ENC\[.*\]",
    re.DOTALL,
)
_SCHEME = re.compile(r"(?i)(?:bearer|basic|token|apikey|api-key|dpop)\s+")
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_SECRET_WORDS = frozenset(
    {
        "key",
        "keys",
        "token",
        "tokens",
        "secret",
        "secrets",
        "password",
        "passphrase",
        "passwd",
        "pwd",
        "pass",
        "pat",
        "credential",
        "credentials",
        "auth",
        "authorization",
        "bearer",
        "cookie",
        "sig",
        "signature",
    }
)
_SECRET_ENDS = ("token", "secret", "password", "passwd", "apikey", "authkey", "accesskey", "secretkey", "credentials")
_NEUTRAL = frozenset(
    {
        "url",
        "uri",
        "path",
        "file",
        "dir",
        "name",
        "id",
        "host",
        "port",
        "domain",
        "type",
        "alg",
        "algorithm",
        "region",
        "bucket",
        "arn",
        "prefix",
        "ttl",
        "timeout",
        "expires",
        "expiry",
        "mode",
        "method",
        "version",
        "format",
        "issuer",
        "audience",
        "location",
        "header",
        "field",
        "scope",
        "scopes",
        "label",
        "env",
        "var",
        "variable",
        "digest",
        "hash",
        "sha",
        "checksum",
        "fingerprint",
        "thumbprint",
        "kid",
        "command",
        "helper",
    }
)
_PUBLIC = frozenset({"public", "publishable", "pub"})
_CHARACTERS = re.compile(r"[A-Za-z0-9+/=_.~:!@#%^&*-]{16,4096}")
_HEX = re.compile(r"[0-9a-fA-F-]{20,}")
_RUN = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|\d+")
_INNER, _VOWEL = re.compile(r"(?<=[A-Za-z])\d+(?=[A-Za-z])"), re.compile(r"[aeiouyAEIOUY]")
_SERVER_ADDRESS = frozenset({"url", "serverUrl", "httpUrl"})  # of an MCP server, as clients call it
_DRAWN_MIN = 32  # characters of a part of an address
_PATH = re.compile(r"[~.]{0,2}/|[A-Za-z]:[\\/]|[a-z][a-z0-9+.-]*://")
_HEX_BITS, _TEXT_BITS = 3.0, 3.5  # Shannon entropy a character
_JWT = re.compile(r"\beyJ[A-Za-z0-9_-]+\.(eyJ[A-Za-z0-9_-]+)\.[A-Za-z0-9_-]*")
_UUID7 = re.compile(r"\b([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\b", re.IGNORECASE)
_DATABASES = frozenset(
    {"postgresql", "postgres", "mysql", "mariadb", "redis", "rediss", "mongodb", "mongodb+srv", "amqp", "amqps", "mssql"}
)


def secret_kind(text: str, names: tuple[str, ...]) -> str:
    """What kind of secret a text is or holds; "" : none that can be told. ``names``: what it is called, the nearest first."""
    text = text[:TEXT_CHARACTERS_MAX].strip()
    if not text or _REFERENCE.fullmatch(text):
        return ""
    bare = _SCHEME.sub("", text, count=1) if _SCHEME.match(text) else text
    if _REFERENCE.fullmatch(bare):
        return ""
    kind = _in_address(bare) or known_format(bare) or (RANDOM if is_random(bare) and names_a_secret(names) else "")
    return kind or (ADDRESS if names and names[0] in _SERVER_ADDRESS and _opens_by_itself(bare) else "")


def names_a_secret(names: tuple[str, ...]) -> bool:
    """Whether something of that name is expected to be secret: ``API_KEY`` is, ``KEY_PATH`` and ``TOKEN_URL`` are not."""
    words = [word.lower() for word in _WORDS.findall(names[0] if names else "")]
    if not words or words[-1] in _NEUTRAL or _PUBLIC.intersection(words):
        return False
    return any(word in _SECRET_WORDS or word.endswith(_SECRET_ENDS) for word in words)


def is_random(text: str) -> bool:
    """Whether a text looks as if a machine had drawn it: neither a path, nor an address, nor words, versions and numbers."""
    if not _CHARACTERS.fullmatch(text) or _NOT_REAL.search(text) or _PATH.match(text) or not any(sign.isdigit() for sign in text):
        return False
    if _HEX.fullmatch(text):
        return _entropy()(text) >= _HEX_BITS
    return not _is_wordy(text) and _entropy()(text) >= _TEXT_BITS


def dated(text: str) -> Dated:
    """What a secret's own format says of its time."""
    token = _JWT.search(text[:TEXT_CHARACTERS_MAX])
    if token:
        claims = _claims(token[1])
        issued = _when(claims.get("iat", claims.get("nbf")))
        return Dated(issued_at=issued, expires_at=_when(claims.get("exp")), says="the token's iat and exp")
    if "sig=" in text:
        query = _query(text.partition("?")[2] or text)
        return Dated(issued_at=_day(query.get("st", "")), expires_at=_day(query.get("se", "")), says="the signature's st and se")
    unique = _UUID7.search(text[:TEXT_CHARACTERS_MAX])
    if unique:
        return Dated(issued_at=_when(int(unique[1] + unique[2], 16) / 1_000), says="its UUID of version 7 (RFC 9562 §5.7)")
    return Dated()


def database_address(text: str) -> tuple[str, str, str]:
    """Scheme, user and the address without its password, of a text that is an address of a database; else empty texts."""
    try:
        parts = urlsplit(text.strip()) if len(text) < 4_096 else urlsplit("")
        scheme, user, host, port = parts.scheme.lower(), unquote(parts.username or ""), parts.hostname or "", parts.port
    except ValueError:
        return "", "", ""
    if scheme.partition("+")[0] not in {one.partition("+")[0] for one in _DATABASES} or not host:
        return "", "", ""
    place = f"{host}:{port}" if port else host
    return scheme, user, f"{scheme}://{f'{parts.username}@' if user else ''}{place}{parts.path}"


def _is_wordy(text: str) -> bool:
    """Whether it is made of words, versions and short numbers: chance leaves single letters between digits, digits within words, and
    few vowels.
    """
    inner, letters = len(_INNER.findall(text)), sum(sign.isalpha() for sign in text)
    vowels = len(_VOWEL.findall(text)) / max(letters, 1)
    if inner >= 3 or (inner == 2 and vowels < 0.3) or (letters >= 12 and vowels < 0.2):
        return False
    return all(len(run) <= 6 if run.isdigit() else len(run) > 1 or run in "vV" for run in _RUN.findall(text))


def known_format(text: str) -> str:
    """The kind of credential that a text holds by its format alone; "" : none."""
    for name, pattern in _FORMATS:
        if any(not _NOT_REAL.search(found.group()) for found in pattern.finditer(text)):
            return name
    told = ((PASSWORD if kind == "Basic Auth Credentials" else kind, found) for kind, found in credential_kinds(text))
    return next((kind for kind, found in told if found.lower() not in _MADE_UP and _is_real(text, found)), "")


def _is_real(text: str, found: str) -> bool:
    """Whether what was found is in a word that nobody made up: a pattern may tell only the beginning of its word."""
    if any(sign.isspace() for sign in found):
        return not _NOT_REAL.search(found)
    return any(found in word and not _NOT_REAL.search(word) for word in text.split())


def _in_address(text: str) -> str:
    """A password or a token inside of an address."""
    try:
        parts = urlsplit(text)
        password = unquote(parts.password or "")
    except ValueError:
        return ""
    if not parts.scheme or not parts.netloc:
        return ""
    if password and password.lower() not in _MADE_UP and not _REFERENCE.fullmatch(password) and not _NOT_REAL.search(password):
        return PASSWORD
    fields = _query(parts.query).items()
    return next((kind for name, value in fields if (kind := known_format(value) or (RANDOM if _hidden(name, value) else ""))), "")


def _opens_by_itself(text: str) -> bool:
    """Whether who knows this address of a server needs nothing else: a long part of its path is drawn by chance, and no digest or UUID."""
    parts = text.partition("?")[0].split("/")[3:] if text.startswith(("http://", "https://")) else []
    return any(len(part) >= _DRAWN_MIN and not _HEX.fullmatch(part) and is_random(part) for part in parts)


def _hidden(name: str, value: str) -> bool:
    return is_random(value) and names_a_secret((name,))


def _query(text: str) -> dict[str, str]:
    try:
        return dict(parse_qsl(text, max_num_fields=64))
    except ValueError:
        return {}


def _claims(part: str) -> dict[str, object]:
    try:
        claims = msgspec.json.decode(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (binascii.Error, ValueError, msgspec.DecodeError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}


def _when(seconds: object) -> datetime | None:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < 2**33:
        return None
    return datetime.fromtimestamp(seconds, UTC)


def _day(text: str) -> datetime | None:
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return None
    return when if when.tzinfo else when.replace(tzinfo=UTC)


@cache
def _entropy() -> Callable[[str], float]:
    from detect_secrets.plugins.high_entropy_strings import Base64HighEntropyString

    return Base64HighEntropyString().calculate_shannon_entropy
