"""The command ``remit``. Exit codes: 0 done, 1 refused or found something, 2 wrong usage or configuration.

Rules: a command is loaded when it is used. What this module says of each is all that ``remit --help`` needs, so that neither help nor
completion waits for servers, drivers and databases.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from remit import __version__

EXIT_CODES = "Exit codes: 0 done, 1 refused or found something, 2 wrong usage or configuration."
_JSON = "remit.json"
_COMMANDS = {  # name: module and name in it, and what it does
    "init": ("setup:init", "Write a working folder, and import the servers of an .mcp.json."),
    "serve": ("work:serve", "Serve the gateway and the control API until a signal stops it."),
    "console": ("console:console", "Print a link that opens the console in a browser, once."),
    "run": ("run:run", "Run a command as an agent on one task, and end its authority when it ends."),
    "task": ("drift:task", "Tasks: the units of authority."),
    "approvals": ("approvals:approvals", "What waits for you, with all that tells friend from foe."),
    "approve": ("approvals:approve", "Approve one question: exactly that call, once, or a class of calls."),
    "deny": ("approvals:deny", "Deny one question."),
    "agent": ("agents:agent", "Declared agents and their identities."),
    "kill": ("agents:kill", "Stop agents at once, with all that they delegated."),
    "lease": ("leases:lease", "Leases: credentials on targets, each for one task."),
    "target": ("leases:target", "Targets: systems on which credentials are leased."),
    "policy": ("policy:policy", "The organisation's policy: check, test, explain, replay, mine."),
    "pin": ("setup:pin", "Accept the tools of servers as they are now."),
    "keys": ("keys:keys", "Keys that sign tokens, and how all of remit's keys are kept."),
    "signals": ("signals:signals", "Signals from outside: what identity providers took back."),
    "ledger": ("audit:ledger", "The ledger: every decision, token and answer, in a log that can be verified."),
    "report": ("report:report", "Report what is under policy and what is enforced, with the entries that show it."),
    "drill": ("drill:drill", "Re-enact known incidents against this folder's policies."),
    "scan": ("scan:scan_command", "Find standing access: secrets in settings of clients, over-broad servers."),
    "doctor": ("setup:doctor", "Check that everything is in place: configuration, keys, store, servers."),
}


class _Loaded(click.Group):
    """A group whose commands are loaded when they are used. Wrong usage is told in JSON as well, where ``--json`` was said."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names."""
        del ctx
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One of them, loaded; ``None`` where there is none of that name."""
        if cmd_name not in _COMMANDS:
            return None
        if cmd_name not in self.commands:
            module, _, name = _COMMANDS[cmd_name][0].partition(":")
            self.add_command(_told(getattr(import_module(f"remit.cli.{module}"), name)), cmd_name)
        return super().get_command(ctx, cmd_name)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Note who asks for JSON: what is wrong with the rest may be found before that option is read."""
        ours = args[: args.index("--")] if "--" in args else args
        ctx.meta[_JSON] = "--json" in ours
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            if ctx.meta[_JSON]:
                click.echo(import_module("remit.cli.common").usage_text(error))
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Names and words, without loading any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, _COMMANDS[name][1]) for name in self.list_commands(ctx)])


@click.group(cls=_Loaded, context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXIT_CODES)
@click.version_option(__version__, prog_name="remit")
def main() -> None:
    """Remit decides, at the moment of use, what an AI agent may do, and gives nothing that outlives the task."""


def _told(command: click.Command) -> click.Command:
    """The command, with its exit codes below its help."""
    command.epilog = command.epilog or EXIT_CODES
    for member in command.commands.values() if isinstance(command, click.Group) else ():
        _told(member)
    return command


if __name__ == "__main__":
    main()
