"""The two conformance lists, written from what runs of the suite found: `docs/conformance.md` and the section of `README.md`.

    python -m tests.conformance.report      # runs every leg straight and through the gateway, then writes both

Rules: a table says only what a run found; `test_gateway.py` makes the same runs and holds the tables to them (`stated`).
What the suite runs without counting it is listed apart, as the suite does.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import textwrap
from collections.abc import Mapping
from pathlib import Path

from tests.conformance.suite import HERE, LEGS, Finding, Leg, run_suite
from tests.e2e.gateway import ROOT, http, http_server, stdio

LISTS = ROOT / "docs" / "conformance.md"
README = ROOT / "README.md"
WAYS = ("straight", "http", "stdio")
BEGIN, END = "<!-- conformance: written by tests/conformance/report.py -->", "<!-- conformance: end -->"
_GRANTS = "".join(f'[[grant]]\n{kind} = "everything/*"\n' for kind in ("tool", "resource", "prompt"))
_TASK = f'objective = "Run the suite"\ndata_ceiling = "public"\ndeadline = "30m"\nbudget = {{ calls = 10000 }}\n{_GRANTS}'
_HEAD = """# MCP conformance

Written by `python -m tests.conformance.report`; `tests/conformance/test_gateway.py` makes the same runs and fails where this
page says something else.

The public suite `@modelcontextprotocol/conformance` runs against one test server (`tests/servers/everything.py`, on the `mcp`
SDK): *straight*, and as the child of `remit run` through the gateway, which reaches that server by HTTP or by stdio. The server
speaks to the suite, so the suite says what the server can; the two columns on the right say that the gateway loses none of it.
"""


def write_folder(folder: Path, kind: str, address: str) -> Path:
    """A working folder of `remit` before the test server, reached by ``http`` or started behind ``stdio``."""
    server = http("everything", address) if kind == "http" else stdio("everything", "everything.py", "--stdio")
    files = {
        "remit.toml": f'[agents.suite]\ntasks = ["suite"]\n{server}',
        "tasks/suite.toml": _TASK,
        "policies/main.cedar": '@id("all") permit (principal, action, resource);\n',
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def run_through(leg: Leg, folder: Path) -> dict[str, Finding]:
    """Run `leg` as the child of `remit run` in `folder`. Raises SuiteBroken."""
    command = [sys.executable, "-m", "remit.cli.main", "run", "-C", str(folder), "--quiet", "suite", "--"]
    return run_suite(leg, output=folder / "found", command=lambda suite: [*command, *suite])


def title(leg: Leg) -> str:
    """The release and the revision of a leg, for people."""
    pins = json.loads((HERE / "package.json").read_text(encoding="utf-8"))["dependencies"]
    version = pins[f"conformance-{leg.release}"].rpartition("@")[2]
    return f"{version}, " + (f"revision {leg.requirements}" if leg.requirements else "all of its scenarios")


def word(finding: Finding) -> str:
    """How a scenario went."""
    return "passes" if finding.passed else "fails"


def lists(found: Mapping[Leg, Mapping[str, Mapping[str, Finding]]]) -> str:
    """The page: for each leg a table of its scenarios, how each went straight and through the gateway."""
    parts = [_HEAD]
    for leg, ways in found.items():
        for scored, heading in ((True, title(leg)), (False, f"{title(leg)}: run, but not counted by the suite")):
            names = [name for name, finding in ways["straight"].items() if finding.scored is scored]
            if not names:
                continue
            parts.append(f"\n## {heading}\n\n| scenario | straight | gateway, HTTP | gateway, stdio |\n| --- | --- | --- | --- |\n")
            parts += [f"| {name} | {' | '.join(word(ways[way][name]) for way in WAYS)} |\n" for name in names]
    return "".join(parts)


def summary(found: Mapping[Leg, Mapping[str, Mapping[str, Finding]]]) -> str:
    """The README's section: counts, and by name what passes through the gateway."""
    rows = [
        "| suite | scenarios that count | pass straight | pass through the gateway, HTTP | … stdio |\n| --- | --- | --- | --- | --- |\n"
    ]
    named = []
    for leg, ways in found.items():
        counted = {way: [finding for finding in ways[way].values() if finding.scored] for way in WAYS}
        passed = [sum(finding.passed for finding in counted[way]) for way in WAYS]
        rows.append(f"| {title(leg)} | {len(counted['straight'])} | {' | '.join(map(str, passed))} |\n")
        both = [one.scenario for one in counted["http"] if one.passed and ways["stdio"][one.scenario].passed]
        line = f"{title(leg)}, through the gateway: {', '.join(both)}."
        named.append("\n" + textwrap.fill(line, 124, break_on_hyphens=False) + "\n")
    return "".join([*rows, "\n<details><summary>The scenarios by name</summary>\n", *named, "\n</details>\n"])


def stated(leg: Leg, way: str) -> dict[str, str]:
    """What `docs/conformance.md` says of one leg on one way: scenario → ``passes`` or ``fails``."""
    page = LISTS.read_text(encoding="utf-8")
    found: dict[str, str] = {}
    for section in page.split("\n## ")[1:]:
        if section.startswith(title(leg)):
            for line in re.findall(r"^\| ([a-z0-9-]+) \| (\w+) \| (\w+) \| (\w+) \|$", section, re.MULTILINE):
                found[line[0]] = line[1 + WAYS.index(way)]
    return found


def main() -> None:
    """Run everything and write both."""
    found: dict[Leg, dict[str, dict[str, Finding]]] = {}
    with http_server("everything.py") as address, tempfile.TemporaryDirectory() as made:
        for number, leg in enumerate(LEGS):
            folder = Path(made) / str(number)
            found[leg] = {"straight": run_suite(leg, url=address, output=folder / "straight")}
            for kind in ("http", "stdio"):
                found[leg][kind] = run_through(leg, write_folder(folder / kind, kind, address))
            print(f"{title(leg)}: done")
    LISTS.write_text(lists(found), encoding="utf-8")
    readme = README.read_text(encoding="utf-8")
    before, _, rest = readme.partition(BEGIN)
    README.write_text(f"{before}{BEGIN}\n\n{summary(found)}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
