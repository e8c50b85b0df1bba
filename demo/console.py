"""The end of the demo for whoever sits at a terminal: the console over what just happened, and two payments that wait for a person."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from demo.stage import HERE

if TYPE_CHECKING:
    from rich.console import Console

WAIT = "5m"
PAYMENTS = """
[agents.clerk]
description = "Pays bills"
tasks = ["pay-bills"]
[approvals]
wait = "{wait}"
[servers.bank]
command = {python}
args = [{server}]
data_class = "internal"
[tools."bank/bills"]
effect = "read"
trust = "untrusted"
sends = "nowhere"
[tools."bank/pay"]
effect = "irreversible"
trust = "trusted"
sends = "external"
"""
TASK = """
objective = "Pay the bills"
data_ceiling = "internal"
deadline = "30m"
budget = { calls = 10 }
[[grant]]
tool = "bank/bills"
[[grant]]
tool = "bank/pay"
uses = 2
arguments.properties.amount.maximum = 5000
"""
POLICY = """
@id("people-pay")
permit (principal, action == Action::"bank/pay", resource)
when { context has approval };
"""
PLAN = [
    {"tool": "bank/bills", "arguments": {}},
    {"tool": "bank/pay", "arguments": {"recipient": "carpenter@shop.example", "amount": 120, "bill": "17"}},
    {"tool": "bank/pay", "arguments": {"recipient": "eve@evil.example", "amount": 4000, "bill": "18"}},
]


def add_payments(folder: Path) -> None:
    """Give the demo's working folder a bank, a clerk, and a policy under which people pay."""
    text = (folder / "remit.toml").read_text(encoding="utf-8")
    more = PAYMENTS.format(wait=WAIT, python=json.dumps(sys.executable), server=json.dumps(str(HERE / "payments_server.py")))
    (folder / "remit.toml").write_text(text + more, encoding="utf-8")
    (folder / "tasks" / "pay-bills.toml").write_text(TASK, encoding="utf-8")
    policy = (folder / "policies" / "main.cedar").read_text(encoding="utf-8")
    allowed = policy.replace(
        'when { resource.sends == "external" &&', 'when { resource != Tool::"bank/pay" && resource.sends == "external" &&'
    )
    (folder / "policies" / "main.cedar").write_text(allowed + POLICY, encoding="utf-8")


def link(remit: list[str], folder: Path) -> str:
    """A one-time link into the console."""
    return subprocess.run([*remit, "console", "-C", str(folder)], capture_output=True, text=True, check=True).stdout.strip()


def wait_for_person(console: Console, remit: list[str], folder: Path) -> None:
    """Run the clerk, whose payments wait for whoever opens the link; until Enter is pressed. A server runs on the folder meanwhile."""
    job = folder / "plan-payments.json"
    job.write_text(json.dumps(PLAN), encoding="utf-8")
    command = [
        *remit,
        "run",
        "pay-bills",
        "-C",
        str(folder),
        "--on-behalf-of",
        "alice@example.com",
        "--",
        sys.executable,
        "-m",
        "demo.agent",
    ]
    with subprocess.Popen([*command, str(job)], cwd=HERE.parent, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as clerk:
        console.print(f"   An agent wants to pay two bills; each payment waits {WAIT} for you. Look at both: one is not like the other.")
        terminal = Path(sys.executable).parent / "remit"
        console.print("   The same from another terminal:")
        for words in (f"approvals -C {folder}", f"approve ID -C {folder}", f"deny ID -C {folder}", f"ledger tail -C {folder}"):
            console.print(f"      {terminal} {words}", markup=False, soft_wrap=True)
        while True:
            console.print(f"   Open once, within a minute: [bold]{link(remit, folder)}[/bold]", soft_wrap=True)
            try:
                answer = input("   Enter stops the demo; n and Enter prints a new link: ")
            except EOFError:
                break
            if answer.strip().lower() != "n":
                break
        clerk.terminate()
