"""How a drift is shown at a terminal: part by part, before and after, and what is a stranger's escaped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from remit.cli.common import safe

if TYPE_CHECKING:
    from remit.services.manifests import ShownDrift, ShownPart

_COLOURS = {"+": "green", "-": "red"}


def drift_text(drift: ShownDrift) -> str:
    """For people; "" where nothing differs."""
    if not drift.parts:
        return ""
    parts = "\n".join(_part(part) for part in drift.parts)
    return (
        f"\n── drift ── {drift.task} is {drift.state}; its manifest is not the one it was opened with\n{parts}\n"
        f"  the manifest as shown here is {drift.manifest}\n"
        f"  accept it and go on: remit task resume {drift.task} --manifest {drift.manifest} --reason …"
    )


def visible(line: str) -> str:
    """Every character that a terminal would not show as itself, by its number: what is hidden from a person is told to the model."""
    return "".join(sign if sign.isprintable() else f"\\u{{{ord(sign):x}}}" for sign in line)


def _part(part: ShownPart) -> str:
    before, after = part.before or "(there was none)", part.after or "(gone)"
    back = "  (back to what it was, after it had changed)" if part.before == part.after else ""
    lines = [f"  {safe(part.part)}{back}", f"    before  {before}", f"    now     {after}"]
    lines += [f"      {click.style(visible(line), fg=_COLOURS.get(line[:1]))}" for line in part.difference]
    return "\n".join(lines)
