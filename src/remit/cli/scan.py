"""``remit scan``: what is standing today."""

from __future__ import annotations

import os
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from remit.cli.common import REFUSED, emit, json_option, reports_errors, safe
from remit.services.scan import Scanned, scan
from remit.services.scan_writing import write_found

if TYPE_CHECKING:
    from remit.model.scanning import Finding


@click.command("scan")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--write", "folder", type=click.Path(file_okay=False, path_type=Path), help="Write the configuration that takes its place here."
)
@json_option
@reports_errors
async def scan_command(paths: tuple[Path, ...], folder: Path | None, as_json: bool) -> int:
    """Find standing access in PATHS (default: this folder and where MCP clients keep settings): static secrets, over-broad servers.

    Prints no secret, overwrites nothing, asks nobody. Exit code 1 where something was found.
    """
    found = scan([*(paths or (Path(),))], home=None if paths else _home(), environment=os.environ, key=secrets.token_bytes(32))
    now = datetime.now(UTC)
    written = write_found(folder, found) if folder is not None else None
    lines = [line for finding in found.findings for line in _told(finding, now)]
    lines += [f"not read  {safe(one.file)}: {safe(one.why)}" for one in found.unread]
    lines.append(_summary(found))
    if written is not None:
        lines += [f"wrote  {name}" for name in written.written] + [f"kept   {name} (it was there)" for name in written.kept]
        lines += [f"note:  {safe(notice)}" for notice in written.notices]
        lines.append(
            f"next:  remit pin -C {folder}; name the tools in tasks/*.toml; remit policy check -C {folder}; remit doctor -C {folder}"
        )
    data = {
        "findings": [_data(finding, now) for finding in found.findings],
        "unread": found.unread,
        "files": found.files,
        "servers": len(found.servers),
        "written": written,
    }
    emit(data, "\n".join(lines), as_json=as_json)
    return REFUSED if found.findings else 0


def _home() -> Path | None:
    try:
        return Path.home()
    except RuntimeError:
        return None


def _told(finding: Finding, now: datetime) -> list[str]:
    found = finding.found
    head = f"{found.standing.value}  {safe(finding.file)}  {safe(found.where)}"
    server = f"server {safe(found.server)}: " if found.server else ""
    mark = f"  [{found.kind}{f', fingerprint {found.fingerprint}' if found.fingerprint else ''}]"
    return [f"{head}{mark}", f"  {server}{safe(found.what)}", f"  {_age(finding, now)}", f"  → {safe(found.instead)}"]


def _age(finding: Finding, now: datetime) -> str:
    dated = finding.found.dated
    days = max((now - finding.changed_at).days, 0)
    words = [f"in this file for at least {days} days" if days else "the file was changed within a day, so its age is not known"]
    if dated.issued_at is not None:
        words.append(f"issued {dated.issued_at:%Y-%m-%d}, {max((now - dated.issued_at).days, 0)} days ago (says {dated.says})")
    if dated.expires_at is not None:
        words.append(f"{'expired' if dated.expires_at <= now else 'opens until'} {dated.expires_at:%Y-%m-%d}")
    return "; ".join(words)


def _data(finding: Finding, now: datetime) -> dict[str, object]:
    found = finding.found
    return {
        "standing": found.standing.value,
        "kind": found.kind,
        "file": finding.file,
        "where": found.where,
        "server": found.server,
        "what": found.what,
        "instead": found.instead,
        "fingerprint": found.fingerprint,
        "file_changed_at": finding.changed_at,
        "days_at_least": max((now - finding.changed_at).days, 0),
        "issued_at": found.dated.issued_at,
        "expires_at": found.dated.expires_at,
        "date_from": found.dated.says if found.dated.issued_at or found.dated.expires_at else "",
    }


def _summary(found: Scanned) -> str:
    secret = sum(one.found.standing.value == "secret" for one in found.findings)
    broad = len(found.findings) - secret
    looked = f"{found.files} files with {len(found.servers)} MCP servers were looked into"
    if not found.findings:
        return f"nothing that stands was found: {looked}"
    return f"{secret} standing secrets and {broad} over-broad grants: {looked}"
