"""The command ``remit``. Exit codes: 0 done, 1 refused or found something, 2 wrong usage or configuration."""

from __future__ import annotations

import click

from remit import __version__
from remit.cli.agents import kill
from remit.cli.approvals import approvals, approve, deny
from remit.cli.audit import ledger
from remit.cli.common import EXIT_CODES
from remit.cli.console import console
from remit.cli.drift import task_drift, task_resume
from remit.cli.drill import drill
from remit.cli.keys import keys
from remit.cli.leases import lease, target
from remit.cli.policy import policy
from remit.cli.report import report
from remit.cli.run import run
from remit.cli.scan import scan_command
from remit.cli.setup import agent, doctor, init, pin
from remit.cli.signals import signals
from remit.cli.work import serve, task


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXIT_CODES)
@click.version_option(__version__, prog_name="remit")
def main() -> None:
    """Remit decides, at the moment of use, what an AI agent may do, and gives nothing that outlives the task."""


def _told(command: click.Command) -> click.Command:
    """The command, with its exit codes below its help."""
    command.epilog = command.epilog or EXIT_CODES
    for member in command.commands.values() if isinstance(command, click.Group) else ():
        _told(member)
    return command


task.add_command(task_drift)
task.add_command(task_resume)
_TASKS = (init, serve, console, run, task, approvals, approve, deny)
_RULES = (agent, kill, lease, target, policy, pin, keys, signals, ledger, report, drill, scan_command, doctor)
for one in (*_TASKS, *_RULES):
    main.add_command(_told(one))

if __name__ == "__main__":
    main()
