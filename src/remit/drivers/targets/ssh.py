"""SSH: a lease is a fresh key pair and a user certificate for it, signed by an authority that hosts trust. Its key ID is the mark.

Rules
* The certificate may do what the scope says: as these accounts, this one command or a shell, from these addresses; no extension but
  what the scope allows. Each word of the command is quoted for the account's shell, so that an input is never more than one word.
* It is valid from a minute ago to the end of the lease; sshd refuses it outside. A session that is open goes on past that.
* Hosts know nothing of a certificate until it is shown, so there is no list (``TargetKind.lists``). Revocation is a key revocation list
  by key ID, for every authority, and the operator's program that takes it to the hosts and ends what is open there
  (``revocation_lists.py``, docs/targets.md).

Left out: host certificates, other keys than Ed25519, agents and X11. OpenSSH PROTOCOL.certkeys, PROTOCOL.krl.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
import shlex
import struct
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    SSHCertificateBuilder,
    SSHCertificateType,
    load_ssh_private_key,
)

from remit.drivers.targets.base import Finding, Minted, Setting, TargetKind
from remit.drivers.targets.revocation_lists import Listed, RevocationList, check_list_settings
from remit.errors import Mistake, Outage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from remit.drivers.targets.base import Scope, TargetSettings

_BACK_SECONDS = 60  # hosts' clocks
_LIST_MAX = 20
_COMMAND_CHARACTERS_MAX = 4_096
_ACCOUNT = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
_EXTENSIONS = {"port-forwarding": b"permit-port-forwarding", "pty": b"permit-pty"}
_KEYS = frozenset({"accounts", "addresses", "allow", "command", "shell"})
_MAGIC, _VERSION = 0x5353484B524C0A00, 1
_CERTIFICATES, _KEY_IDS = 1, 0x23
_EXAMPLE = 'accounts = ["deploy"], command = ["/usr/local/bin/restart", "{service}"]'


class KeyRevocationList:
    """OpenSSH's KRL, as in PROTOCOL.krl; what it says once more stands in its comment, with the times that a KRL has no place for."""

    def read(self, data: bytes) -> Listed:
        """See Form."""
        try:
            magic, version, number, _, _ = struct.unpack_from(">QIQQQ", data)
            _, rest = _text(data[36:])
            comment, _ = _text(rest)
            entries = json.loads(comment)
        except (struct.error, ValueError):
            raise ValueError("not a KRL") from None
        good = isinstance(entries, dict) and all(isinstance(at, int) for at in entries.values())
        if (magic, version) != (_MAGIC, _VERSION) or not good:
            raise ValueError("not a KRL of ours")
        return Listed(entries=entries, number=number)

    def write(self, listed: Listed) -> bytes:
        """See Form."""
        comment = json.dumps(dict(listed.entries), separators=(",", ":"), sort_keys=True).encode()
        header = struct.pack(">QIQQQ", _MAGIC, _VERSION, listed.number, int(time.time()), 0) + _string(b"") + _string(comment)
        if not listed.entries:
            return header
        ids = b"".join(_string(mark.encode()) for mark in sorted(listed.entries))
        every_authority = _string(b"") + _string(b"")
        return header + bytes([_CERTIFICATES]) + _string(every_authority + bytes([_KEY_IDS]) + _string(ids))


class SshTarget:
    """See ``drivers/targets/base.py`` for the duties."""

    def __init__(self, settings: TargetSettings, secret: Callable[[], Awaitable[str]]) -> None:
        self._name, self._secret, self._form = settings.name, secret, KeyRevocationList()
        self._revoked = RevocationList(settings.name, str(settings.values["list_file"]), str(settings.values["apply"]))

    async def mint(self, mark: str, scope: Scope, expires_at: datetime) -> Minted:
        """See Target."""
        accounts, options, extensions = _read_scope(scope)
        authority = await self._authority()
        await self._revoked.ready(self._form, expires_at)
        key = Ed25519PrivateKey.generate()
        built = (
            SSHCertificateBuilder()
            .type(SSHCertificateType.USER)
            .public_key(key.public_key())
            .serial(int.from_bytes(hashlib.sha256(mark.encode()).digest()[:8]))
            .key_id(mark.encode())
            .valid_principals([account.encode() for account in accounts])
            .valid_after(int(datetime.now(UTC).timestamp()) - _BACK_SECONDS)
            .valid_before(int(expires_at.timestamp()))
        )
        for name, value in options.items():
            built = built.add_critical_option(name, value.encode())
        for name in extensions:
            built = built.add_extension(name, b"")
        armoured = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
        parts = {
            "private_key": armoured,
            "private_key_base64": "".join(armoured.splitlines()[1:-1]),
            "certificate": built.sign(authority).public_bytes().decode() + "\n",
            "user": accounts[0],
        }
        return Minted(parts=parts, secret=frozenset({"private_key", "private_key_base64"}))

    async def revoke(self, mark: str, minted: Minted | None = None) -> bool:
        """See Target. Whether there was anything nobody can tell: true when it was not revoked before."""
        del minted
        return await self._revoked.add(mark, self._form)

    async def list_ours(self, prefix: str) -> frozenset[str]:
        """Nothing: see TargetKind.lists. The list of what was revoked is looked after. Raises Outage."""
        del prefix
        await self._revoked.ready(self._form)
        return frozenset()

    async def check(self) -> tuple[Finding, ...]:
        """See Target."""
        try:
            authority = await self._authority()
        except (Mistake, Outage) as error:
            return (Finding(good=False, text=f"{error.message}{f': {error.hint}' if error.hint else ''}"),)
        if wrong := await self._revoked.findings():
            return wrong
        shown = authority.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
        text = f"certificates are signed by {shown}: hosts name it in TrustedUserCAKeys, and the list in RevokedKeys"
        more = Finding(good=True, text="sshd keeps no list of certificates, and ends no session when one expires")
        return (Finding(good=True, text=text), more)

    async def close(self) -> None:
        """See Target."""
        self._revoked.close()

    async def _authority(self) -> Ed25519PrivateKey:
        """Raises Mistake, Outage."""
        try:
            key = load_ssh_private_key((await self._secret()).encode(), None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, Ed25519PrivateKey):
            text = f"the secret of target {self._name} is no Ed25519 key of OpenSSH without a passphrase"
            raise Mistake(text, code="target_secret", hint="ssh-keygen -t ed25519 -N '' -f authority; remit target set-secret")
        return key


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _text(data: bytes) -> tuple[bytes, bytes]:
    """A string and what comes after it. Raises struct.error."""
    (length,) = struct.unpack_from(">I", data)
    return data[4 : 4 + length], data[4 + length :]


def _read_scope(scope: Scope) -> tuple[list[str], dict[bytes, str], list[bytes]]:
    """Accounts, critical options, extensions. Raises Mistake."""
    unknown = sorted(set(scope) - _KEYS)
    if unknown:
        raise _wrong(f"{unknown[0]!r} is not part of a scope")
    accounts = _texts(scope, "accounts")
    if not accounts or not all(_ACCOUNT.fullmatch(account) for account in accounts):
        raise _wrong("accounts are names of accounts on the hosts, one or more")
    options: dict[bytes, str] = {}
    words, shell = _texts(scope, "command"), scope.get("shell", False)
    if not isinstance(shell, bool) or bool(words) is shell:
        raise _wrong("a scope has a command, a list of words, or shell = true: one of them")
    if words:
        options[b"force-command"] = shlex.join(words)
        if not words[0] or len(options[b"force-command"]) > _COMMAND_CHARACTERS_MAX:
            raise _wrong(f"a command has a first word, and {_COMMAND_CHARACTERS_MAX:,} characters at most")
    if "addresses" in scope:
        options[b"source-address"] = ",".join(_network(address) for address in _texts(scope, "addresses"))
        if not options[b"source-address"]:
            raise _wrong("addresses are named, or left out")
    allow = _texts(scope, "allow")
    if not set(allow) <= set(_EXTENSIONS):
        raise _wrong(f"allow is a list of: {', '.join(_EXTENSIONS)}")
    return accounts, options, [_EXTENSIONS[word] for word in sorted(set(allow))]


def _texts(scope: Scope, key: str) -> list[str]:
    found: Any = scope.get(key, [])
    if not isinstance(found, list) or len(found) > _LIST_MAX or not all(isinstance(one, str) and (one.isprintable()) for one in found):
        raise _wrong(f"{key} is a list of at most {_LIST_MAX} texts without control characters")
    return found


def _network(address: str) -> str:
    try:
        return str(ipaddress.ip_network(address))
    except ValueError:
        raise _wrong("an address is an address or a network, like 10.1.0.0/16") from None


def _wrong(what: str) -> Mistake:
    return Mistake(what, code="lease_scope", hint=_EXAMPLE)


SSH = TargetKind(
    name="ssh",
    settings={
        "list_file": Setting(kind=str, hint='list_file = "/var/lib/remit/hosts.krl"'),
        "apply": Setting(kind=str, hint='apply = "/usr/local/lib/remit/ssh-revoke"'),
    },
    blank={"private_key": "", "private_key_base64": "", "certificate": "", "user": ""},
    check_settings=check_list_settings,
    check_scope=lambda scope: (_read_scope(scope), None)[1],
    open=SshTarget,
    lists=False,
    divisible=frozenset({"accounts", "allow"}),
)
