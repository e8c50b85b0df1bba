"""``remit scan``: what stands today, and what access bound to a task would take its place.

Rules: no secret leaves: findings hold kinds, places and fingerprints under a key that dies with the run; a place whose name is itself a
secret is masked. Nothing is written here, and nothing is asked of anybody. Left out: writing the configuration (``scan_writing.py``).
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from remit.drivers.standing_files import StandingFiles
from remit.logic.broad_access import broad_client, broad_server
from remit.logic.client_settings import LEAVES_MAX, BrokenSettings, leaves, lines, parse_settings, remarks, servers
from remit.logic.secret_values import PASSWORD, TEXT_CHARACTERS_MAX, database_address, dated, known_format, secret_kind
from remit.model.scanning import Finding, Found, Leaf, ServerEntry, Standing, Unread

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from remit.drivers.standing_files import Text

FINDINGS_MAX = 10_000
_TOML_BYTES_MAX = 131_072
_FINGERPRINT = 12
_MASK = "***"
_TARGETS = {
    "postgresql": "postgresql",
    "postgres": "postgresql",
    "mysql": "mariadb",
    "mariadb": "mariadb",
    "redis": "redis",
    "rediss": "redis",
    "amqp": "rabbitmq",
    "amqps": "rabbitmq",
}
_KINDS = {"AWS Access Key": "aws", "GitHub Token": "github", "GitHub token": "github", "Private Key": "ssh"}
_MINTED = {
    "postgresql": 'a [targets.NAME] of kind "postgresql": a role for the task\'s own tables, dropped with the task',
    "mariadb": 'a [targets.NAME] of kind "mariadb": a user for the task\'s own tables, dropped with the task',
    "redis": 'a [targets.NAME] of kind "redis": a user for the task\'s own keys, gone with the task',
    "rabbitmq": 'a [targets.NAME] of kind "rabbitmq": a user for the task\'s own queues, dropped with the task',
    "github": 'a [targets.NAME] of kind "github": a token of an hour for the task\'s own repositories, given back with the task',
    "ssh": 'a [targets.NAME] of kind "ssh" (or "x509"): a certificate of minutes for a key that only the task\'s server holds',
    "aws": 'a [targets.NAME] of kind "aws": a session of one role, of minutes, narrowed to the task',
}
_INJECTED = (
    'a [targets.NAME] of kind "static": sealed at remit, put into the server for tasks whose type has the [[lease]], never in a file; or '
    "have its system give out short ones, where it can"
)
_MODEL = "remit run for the agent, with this key in the environment of the one process that needs it, from a secret store; not in a file"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scanned:
    """What was found. ``files``: how many were read; ``servers``: MCP servers that were seen, each with its file."""

    findings: tuple[Finding, ...]
    unread: tuple[Unread, ...]
    files: int
    servers: tuple[tuple[str, ServerEntry], ...]


def scan(paths: list[Path], *, home: Path | None, environment: Mapping[str, str], key: bytes) -> Scanned:
    """Look through paths, and with ``home`` through the known places below it. ``key``: random, of this run alone."""
    files = StandingFiles()
    findings: list[Finding] = []
    seen: list[tuple[str, ServerEntry]] = []
    for text in files.texts(paths, known=files.known(home, environment) if home is not None else []):
        told, entries, missed = look(text, key)
        files.unread += missed
        seen += [(str(text.path), entry) for entry in entries]
        for one in told:
            if len(findings) >= FINDINGS_MAX:
                files.unread.append(Unread(file=str(text.path), why=f"more than {FINDINGS_MAX:,} findings: the rest is not told"))
                break
            findings.append(Finding(file=mask(str(text.path)), changed_at=text.changed_at, found=one))
    unread = tuple(replace(one, file=mask(one.file)) for one in files.unread)
    return Scanned(findings=tuple(findings), unread=unread, files=files.read, servers=tuple(seen))


def look(text: Text, key: bytes) -> tuple[list[Found], list[ServerEntry], list[Unread]]:
    """What one file holds."""
    found, missed, data = [], [], None
    texts: Iterator[Leaf] = lines(text.text)
    suffix = text.path.suffix.lower()
    if suffix in {".json", ".jsonc", ".toml"} or text.path.name == "OAI_CONFIG_LIST":
        toml = suffix == ".toml"
        try:
            if toml and len(text.text) > _TOML_BYTES_MAX:
                raise BrokenSettings(f"larger than {_TOML_BYTES_MAX:,} characters")
            data = parse_settings(text.text, toml=toml)
            texts = itertools.chain(leaves(data), remarks(text.text, toml=toml))
        except BrokenSettings as broken:
            missed.append(
                Unread(file=str(text.path), why=f"not read as {'TOML' if toml else 'JSON'} ({broken}), so looked at line by line")
            )
    number = 0
    for leaf in texts:
        number += 1
        if len(leaf.text) > TEXT_CHARACTERS_MAX:
            missed.append(
                Unread(file=str(text.path), why=f"{mask(leaf.where)} has {len(leaf.text):,} characters and was looked at in part")
            )
        kind = secret_kind(leaf.text, leaf.names)
        if kind:
            found.append(_secret(leaf, kind, key))
    if number >= LEAVES_MAX:
        missed.append(Unread(file=str(text.path), why=f"more than {LEAVES_MAX:,} values: the rest was not looked at"))
    entries = list(servers(data)) if data is not None else []
    broad = [*(one for entry in entries for one in broad_server(entry)), *broad_client(data)]
    found += [replace(one, where=mask(one.where), server=mask(one.server), what=mask(one.what)) for one in broad]
    return found, entries, missed


def mask(text: str) -> str:
    """A path or a pointer for people: a part of it that is itself a secret is not shown."""
    return "/".join(_MASK if known_format(part[:TEXT_CHARACTERS_MAX]) else part for part in text.split("/"))


def target_kind(text: str, kind: str) -> str:
    """The kind of target that would mint in place of a secret; ``static``: none can."""
    scheme, _, _ = database_address(text)
    return _TARGETS.get(scheme.partition("+")[0], "") or _KINDS.get(kind, "static")


def _secret(leaf: Leaf, kind: str, key: bytes) -> Found:
    scheme, user, _ = database_address(leaf.text)
    named = f", called {mask(leaf.names[0])[:80]}" if leaf.names and leaf.names[0] else ""
    of_whom = f" of the {scheme} account {mask(user)[:60]!r}" if scheme and kind == PASSWORD else ""
    minted = target_kind(leaf.text, kind)
    is_model = minted == "static" and any(word in kind for word in ("Anthropic", "OpenAI", "Groq", "Hugging Face"))
    return Found(
        standing=Standing.SECRET,
        kind=kind,
        where=mask(leaf.where),
        what=f"{kind}{of_whom}{named}: whoever reads this file may use it, until it is replaced at its system",
        instead=_MODEL if is_model else _MINTED.get(minted, _INJECTED),
        fingerprint=hmac.new(key, leaf.text.encode(errors="surrogatepass"), hashlib.sha256).hexdigest()[:_FINGERPRINT],
        dated=dated(leaf.text),
    )
