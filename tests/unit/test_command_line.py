"""The command line begins at once: what a command needs is loaded when it runs."""

import subprocess
import sys

import click
import pytest

from remit.cli.main import main

PROGRAM = """
import atexit, sys
atexit.register(lambda: sys.stderr.write(" ".join(sorted(sys.modules))))
from remit.cli.main import main
main(prog_name="remit")
"""


@pytest.mark.parametrize("words", [["--help"], ["--version"], [], ["no-such-command"]], ids=str)
def test_help_and_version_load_no_server_no_target_and_no_database(words):
    done = subprocess.run([sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True, check=False, timeout=60)
    modules = done.stderr.splitlines()[-1].split()
    strangers = {name.partition(".")[0] for name in modules} - sys.stdlib_module_names
    assert {name for name in strangers if not name.startswith("_")} <= {"click", "remit", "coverage", "sitecustomize"}
    assert {name for name in modules if name.startswith("remit")} <= {"remit", "remit.cli", "remit.cli.main"}
    assert {"asyncio", "sqlite3", "ssl"}.isdisjoint(modules)


def test_what_help_says_of_a_command_is_what_the_command_is():
    """Each is found where it is said to be, under its own name."""
    context = click.Context(main)
    told = main.get_help(context)
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert command is not None
        assert command.name == name
        assert f"  {name} " in told
    assert main.get_command(context, "no-such-command") is None
