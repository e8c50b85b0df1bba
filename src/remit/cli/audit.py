"""``remit ledger``: look at the log, take it out, verify it elsewhere."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import IO

import click

from remit.cli.common import REFUSED, emit, folder_option, json_option, operator, reports_errors, safe
from remit.errors import Mistake, NotFound
from remit.logic.audit import Verified
from remit.logic.checkpoint import Verifier
from remit.node import open_node, utc_now
from remit.services.retention import Retention
from remit.services.verifying import verify_file

_TAIL_MAX = 1_000
_AGE = re.compile(r"(\d{1,5})([dhm])\Z", re.ASCII)
_UNITS = {"d": "days", "h": "hours", "m": "minutes"}


@click.group()
def ledger() -> None:
    """The ledger: every decision, token and answer, in a log that anybody can verify."""


@ledger.command("tail")
@click.option("--lines", "-n", type=click.IntRange(1, _TAIL_MAX), default=20, help="How many entries.")
@folder_option
@json_option
@reports_errors
async def tail(lines: int, folder: Path, as_json: bool) -> None:
    """The newest entries."""
    async with open_node(folder.resolve()) as node:
        size = await node.store.change_mark()
        entries = await node.ledger.entries(max(size - lines, 0), lines)
    records = [{"index": entry.index, **json.loads(entry.body)} for entry in entries]
    human = "\n".join(f"{entry.index:>7}  {safe(entry.body.decode())}" for entry in entries)
    emit(records, human, as_json=as_json)


@ledger.command("show")
@click.argument("index", type=click.IntRange(0))
@folder_option
@json_option
@reports_errors
async def show(index: int, folder: Path, as_json: bool) -> None:
    """One entry, whole."""
    async with open_node(folder.resolve()) as node:
        entries = await node.ledger.entries(index, 1)
    if not entries:
        raise NotFound(f"the ledger has no entry {index}", hint="`remit ledger tail` shows the newest")
    record = json.loads(entries[0].body)
    pretty = "\n".join(safe(line) for line in json.dumps(record, indent=2, ensure_ascii=False).splitlines())
    emit(record, pretty, as_json=as_json)


@ledger.command("key")
@folder_option
@json_option
@reports_errors
async def key(folder: Path, as_json: bool) -> None:
    """The public key that verifies the log (a C2SP vkey). Give it to your auditor before you need one."""
    async with open_node(folder.resolve()) as node:
        text = str(node.ledger.verifier)
    emit({"vkey": text}, text, as_json=as_json)


@ledger.command("export")
@click.argument("file", type=click.File("w", encoding="utf-8"))
@folder_option
@json_option
@reports_errors
async def export(file: IO[str], folder: Path, as_json: bool) -> None:
    """Write the whole log to FILE (- for standard output), for `remit ledger verify` anywhere."""
    async with open_node(folder.resolve()) as node:
        written = await node.ledger.export(file)
    if file.name not in {"-", "<stdout>"}:  # what goes to standard output is the log and nothing else
        emit({"entries": written}, f"{written} entries", as_json=as_json)


@ledger.command("proof")
@click.argument("index", type=click.IntRange(0))
@folder_option
@reports_errors
async def proof(index: int, folder: Path) -> None:
    """Proof that entry INDEX is in the log (a C2SP .tlog-proof)."""
    async with open_node(folder.resolve()) as node:
        if not await node.ledger.entries(index, 1):
            raise NotFound(f"the ledger has no entry {index}", hint="`remit ledger tail` shows the newest")
        click.echo(await node.ledger.proof_file(index), nl=False)


@ledger.command("forget-values")
@click.option("--older-than", required=True, help="Of calls decided longer ago than this: 30d, 12h, 45m.")
@folder_option
@json_option
@reports_errors
async def forget_values(older_than: str, folder: Path, as_json: bool) -> None:
    """Delete the sealed values that were kept of old calls. It is recorded; the ledger itself stays whole."""
    found = _AGE.match(older_than)
    if found is None:
        raise Mistake(f"--older-than {older_than[:40]!r} is no time", code="older_than", hint="write 30d, 12h or 45m")
    age = timedelta(**{_UNITS[found[2]]: int(found[1])})
    async with open_node(folder.resolve()) as node:
        calls = await Retention(node.store, utc_now).forget_values(age, operator())
    emit({"calls": calls}, f"the values of {calls} calls are no longer kept", as_json=as_json)


@ledger.command("verify")
@click.argument("file", type=click.File("rb"))
@click.option("--key", "vkey", required=True, help="The log's public key, as `remit ledger key` prints it, or a file that holds it.")
@json_option
@reports_errors
async def verify(file: IO[bytes], vkey: str, as_json: bool) -> int:
    """Verify an exported log offline, with nothing but the public key; names the first entry that does not fit."""
    path = Path(vkey)
    text = path.read_text(encoding="utf-8") if "+" not in vkey and path.is_file() else vkey
    outcome = verify_file(file, Verifier.parse(text))
    if isinstance(outcome, Verified):
        data = {"verified": True, "entries": outcome.entries, "checkpoints": outcome.checkpoints, "root": outcome.root.hex()}
        emit(data, f"verified: {outcome.entries} entries under {outcome.checkpoints} signed checkpoints", as_json=as_json)
        return 0
    where = f"entry {outcome.first}" if outcome.first == outcome.last else f"entries {outcome.first} to {outcome.last}"
    data = {"verified": False, "first": outcome.first, "last": outcome.last, "what": outcome.what}
    emit(data, f"NOT what was signed, {where}: {safe(outcome.what)}", as_json=as_json)
    return REFUSED
