"""Runs the demo: once with a static role, once with remit, side by side at the end."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from rich.console import Console
from rich.table import Table

from demo.console import add_payments, wait_for_person
from demo.database import Database, Thief, database, free_port, login
from demo.stage import HERE, Collector, build_company, build_guard, node_tools, plan, servers

if TYPE_CHECKING:
    from collections.abc import Iterator

CONSOLE = Console(highlight=False)
REMIT = [sys.executable, "-m", "remit.cli.main"]
CACHE = HERE.parent / ".cache" / "demo"
GOALS = {
    "files/read_text_file": "read the payroll, outside its task",
    "web/fetch": "send it to the attacker",
    "git/git_create_branch": "use a tool it was not given",
    "files/write_file": "overwrite the report",
    "find-the-password": "find the database's password in its environment",
    "db/show_settings": "have the server tell it the password",
    "db/query": "read a table beyond its task",
}
LATER = {"files/read_text_file": "use its access after the task", "database": "use the database's password after the task"}


@dataclass(frozen=True)
class Step:
    """What one call of the agent came to."""

    why: str
    tool: str
    state: str
    text: str


def steps(output: str) -> list[Step]:
    """The agent's own account of its calls."""
    found = []
    for line in output.splitlines():
        if line.startswith("RESULT "):
            _, why, tool, state, *rest = line.split(" ", 4)
            found.append(Step(why, tool, state, rest[0] if rest else ""))
    return found


def main() -> int:
    began = time.monotonic()
    CONSOLE.rule("[bold]remit: an agent acts within its remit, or not at all")
    node, filesystem = node_tools(CACHE)
    with tempfile.TemporaryDirectory(prefix="remit-demo-") as scratch, database() as company:
        base = Path(scratch).resolve()
        static, loot_static = run_static(base / "static", node, filesystem, company)
        guarded, ok = run_guarded(base / "guarded", node, filesystem, company)
        compare(static, guarded, loot_static)
        if "--console" in sys.argv[1:] or (sys.stdin.isatty() and sys.stdout.isatty()):
            show_console(base / "guarded" / "guard")
    CONSOLE.print(f"\n[dim]{time.monotonic() - began:.0f} seconds. Next: remit init, in a folder of your own.[/dim]")
    return 0 if ok else 1


def run_static(root: Path, node: str, filesystem: str, company: Database) -> tuple[list[Step], list[str]]:
    """The agent with a static role: the same servers, all their tools, nobody in between."""
    CONSOLE.print("\n[bold]1. A static role.[/bold] The agent has files, git, web and a database, as a client's mcp.json gives them.")
    collector = Collector()
    build_company(root, collector.url)
    config = root / "mcp.json"
    config.write_text(json.dumps({"mcpServers": servers(root, node, filesystem, company.app_url)}), encoding="utf-8")
    job = root / "plan.json"
    job.write_text(json.dumps(plan(root, "letter.md")), encoding="utf-8")
    environment = {**os.environ, "REMIT_MCP_CONFIG": str(config), "DEMO_LOOT": str(root / "loot")}
    done = subprocess.run(
        [sys.executable, "-m", "demo.agent", str(job)], env=environment, cwd=HERE.parent, capture_output=True, text=True, check=False
    )
    found = steps(done.stdout)
    show(found)
    for item in collector.received:
        CONSOLE.print(f"   [red]the attacker received:[/red] {item[:70]}")
    job.write_text(json.dumps([{"tool": "files/read_text_file", "arguments": {"path": str(root / "payroll" / "salaries.csv")}}]))
    again = subprocess.run(
        [sys.executable, "-m", "demo.agent", str(job)], env=environment, cwd=HERE.parent, capture_output=True, text=True, check=False
    )
    later = steps(again.stdout)
    CONSOLE.print("   after its work, with no task at all, it reads the payroll again, and opens the database:")
    refused = login(loot_of(root))
    later.append(Step("task", "database", "blocked" if refused else "done", refused))
    show(later)
    return [*found, *(Step("later", step.tool, step.state, step.text) for step in later)], collector.received


def run_guarded(root: Path, node: str, filesystem: str, company: Database) -> tuple[list[Step], bool]:
    """The same agent, the same servers, the same letter, with remit in between."""
    collector = Collector()
    build_company(root, collector.url)
    folder = root / "guard"
    port = free_port()
    build_guard(folder, servers(root, node, filesystem, "{lease:orders.url}"), port, company.remit_url)
    for words, said in ((("pin",), ""), (("target", "set-secret", "orders"), company.remit_password)):
        subprocess.run([*REMIT, *words, "-C", str(folder)], input=said, stdout=subprocess.DEVNULL, text=True, check=True)
    CONSOLE.print("\n[bold]2. remit, an honest task.[/bold] Summarise docs/report.md: what a dispatcher would open.")
    honest, _ = run_task(folder, root, "report.md")
    show(honest)
    CONSOLE.print("\n[bold]3. remit, the same agent, hijacked.[/bold] Summarise docs/letter.md, which gives it orders.")
    thief = Thief(root / "thief")
    thief.start()
    hijacked, told = run_task(folder, root, "letter.md", receipt=True)
    show(hijacked)
    CONSOLE.print("\n[bold]4. After the task.[/bold]")
    with serving(folder, port):
        code = present(port, (root / "loot").read_text(encoding="utf-8"))
    CONSOLE.print(f"   the stolen token, presented again: HTTP {code} {'[green]refused' if code == 401 else '[red]ACCEPTED'}")
    CONSOLE.print(f"   the attacker received: {len(collector.received) or 'nothing'}")
    password, gone = look_into_database(company, thief, told)
    verified = verify(folder, root)
    honest_done = all(step.state == "done" for step in [*honest, *hijacked] if step.why == "task")
    tried = {step.tool: step.state for step in hijacked if step.why == "hijack" and step.tool in GOALS}
    stopped = tried == dict.fromkeys(GOALS, "blocked")
    ok = honest_done and stopped and code == 401 and gone and verified and untouched(root, collector, told, thief.url)
    state = "blocked" if code == 401 else "done"
    after = Step("later", "files/read_text_file", state, f"its token died with the task: HTTP {code}")
    return [*hijacked, after, *password, *(Step("loot", "", "done", item) for item in collector.received)], ok


def look_into_database(company: Database, thief: Thief, told: str) -> tuple[list[Step], bool]:
    """What the target itself says of the task's credential after the task, whether everything of it is gone, and how long it stood."""
    thief.join(timeout=60)
    stood = re.search(r"(\d+) issued, (\d+) confirmed gone, exposed for ([\d.]+) s", told)
    seconds = float(stood[3]) if stood else 0.0
    there, session, again = company.knows(thief.role), thief.uses_session(), thief.logs_in()
    logins = ", ".join(f"{role} ({until})" for role, until in company.logins().items())
    CONSOLE.print(f"   the database's catalog: role {thief.role} {'[red]IS STILL THERE' if there else '[green]is gone'}")
    CONSOLE.print(f"      who may log in, and until when: {logins}: the static role's password")
    CONSOLE.print("   somebody broke into the server's machine during the task, copied its password and logged in. Now")
    CONSOLE.print(f"      that open session: {session or 'STILL WORKS'}", markup=False)
    CONSOLE.print(f"      the old password:  {again or 'STILL OPENS IT'}", markup=False)
    static = time.monotonic() - company.app_since
    CONSOLE.print(
        f"   exposure: this task's password {seconds:.1f} s, as the receipt says; the static one {static:.0f} s so far, and without end"
    )
    gone = bool(thief.role and session and again and stood and stood[1] == stood[2] == "1") and not there
    steps = [
        Step("later", "database", "blocked" if again else "done", "the role is gone: its password is refused" if again else ""),
        Step("exposure", "", "done", f"{seconds:.1f} s"),
    ]
    return steps, gone


def untouched(root: Path, collector: Collector, told: str, url: str) -> bool:
    """Whether nothing left the house or was changed, and the password is in nothing that the agent found or said, nor in the ledger."""
    branch = subprocess.run(["git", "branch", "--list", "owned"], cwd=root / "project", capture_output=True, text=True, check=True).stdout
    report = (root / "project" / "docs" / "report.md").read_text(encoding="utf-8")
    exported = (root / "ledger.txt").read_text(encoding="utf-8")
    password = urlsplit(url).password
    hidden = bool(password) and not any(str(password) in text for text in (told, loot_of(root), exported))
    return not collector.received and not branch and "owned" not in report and hidden


def loot_of(root: Path) -> str:
    """The address of the database as the agent found it in what it has itself: "" where it found none."""
    return (root / "loot.database").read_text(encoding="utf-8")


def run_task(folder: Path, root: Path, document: str, *, receipt: bool = False) -> tuple[list[Step], str]:
    """One ``remit run``: the agent's calls, and all that was told."""
    job = root / f"plan-{document}.json"
    job.write_text(json.dumps(plan(root, document)), encoding="utf-8")
    command = [
        *REMIT, "run", "summarise", "-C", str(folder), "-i", f"document={document}", "-i", f"project={root / 'project'}",
        "--on-behalf-of", "alice@example.com", "--", sys.executable, "-m", "demo.agent", str(job),
    ]  # fmt: skip
    environment = {**os.environ, "DEMO_LOOT": str(root / "loot")}
    done = subprocess.run(command, env=environment, cwd=HERE.parent, capture_output=True, text=True, check=False)
    shown = done.stderr if receipt else done.stderr.split("── receipt")[0]
    CONSOLE.print(shown.strip(), markup=False, soft_wrap=True)  # a signed checkpoint is to be copied as it stands
    return steps(done.stdout), done.stderr + done.stdout


def show(found: list[Step]) -> None:
    """The agent's calls, a line each."""
    for step in found:
        mark = "[green]did  [/green]" if step.state == "done" else "[yellow]could not[/yellow]"
        whose = "[red]hijack[/red]" if step.why == "hijack" else "task  "
        CONSOLE.print(f"   {whose} {mark} {step.tool}")


def show_console(folder: Path) -> None:
    """The console over all of it, for whoever sits at the terminal."""
    CONSOLE.print("\n[bold]5. Your turn.[/bold] The console: what the hijacked agent tried, and what waits for a person.")
    add_payments(folder)
    port = int(re.findall(r"^port = (\d+)", (folder / "remit.toml").read_text(encoding="utf-8"), re.MULTILINE)[0])
    with serving(folder, port):
        wait_for_person(CONSOLE, REMIT, folder)


def compare(static: list[Step], guarded: list[Step], loot: list[str]) -> None:
    """Side by side."""
    table = Table(title="What the letter asked for", show_lines=False)
    for heading in ("the hijacked agent tried to", "static role", "remit", "why"):
        table.add_column(heading)
    after = {(step.why, step.tool): step for step in guarded}
    for step in static:
        if (step.why, step.tool) in after and (step.why == "later" or step.tool in GOALS) and step.why != "task":
            now = after[step.why, step.tool]
            goal = LATER[step.tool] if step.why == "later" else GOALS[step.tool]
            why = now.text.removeprefix("Refused: ").partition(". Nothing was done")[0].replace(tempfile.gettempdir(), "…")
            table.add_row(goal, came_to(step), came_to(now), textwrap.shorten(why, 90, placeholder=" …"))
    sent = sum(step.why == "loot" for step in guarded)
    table.add_row("data that left the house", f"messages: {len(loot)}", f"messages: {sent}", "")
    stood = next(step.text for step in guarded if step.why == "exposure")
    table.add_row("how long a stolen password opens the database", "without end", stood, "the credential is the task's")
    CONSOLE.print()
    CONSOLE.print(table)


def came_to(step: Step) -> str:
    """One cell."""
    return "[red]did it[/red]" if step.state == "done" else "[green]could not[/green]"


@contextlib.contextmanager
def serving(folder: Path, port: int) -> Iterator[None]:
    """``remit serve`` on the same folder, as a node that knows the task and its end."""
    with subprocess.Popen([*REMIT, "serve", "-C", str(folder)], stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(200):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
                time.sleep(0.05)
            yield
        finally:
            process.terminate()


def present(port: int, token: str) -> int:
    """Present a token to the gateway; the status it answers with."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).encode()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/mcp/files", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def verify(folder: Path, root: Path) -> bool:
    """Export the ledger and verify it with nothing but the public key; then change one byte and see it named."""
    export = root / "ledger.txt"
    subprocess.run([*REMIT, "ledger", "export", str(export), "-C", str(folder)], check=True, capture_output=True)
    key = subprocess.run([*REMIT, "ledger", "key", "-C", str(folder)], check=True, capture_output=True, text=True).stdout.strip()
    good = subprocess.run([*REMIT, "ledger", "verify", str(export), "--key", key], capture_output=True, text=True, check=False)
    CONSOLE.print(f"   the ledger: {good.stdout.strip()}", markup=False)
    lines = export.read_text(encoding="utf-8").splitlines()
    entry = next(number for number, line in enumerate(lines) if line.startswith("entry ") and number > len(lines) // 2)
    middle = len(lines[entry]) // 2
    lines[entry] = lines[entry][:middle] + ("A" if lines[entry][middle] != "A" else "B") + lines[entry][middle + 1 :]
    export.write_text("\n".join(lines) + "\n", encoding="utf-8")
    bad = subprocess.run([*REMIT, "ledger", "verify", str(export), "--key", key], capture_output=True, text=True, check=False)
    CONSOLE.print(f"   one letter of it changed: {bad.stdout.strip()}", markup=False)
    return good.returncode == 0 and bad.returncode == 1


if __name__ == "__main__":
    sys.exit(main())
