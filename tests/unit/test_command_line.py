"""The command line begins at once: what a command needs is loaded when it runs."""

import json
import os
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

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


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["task", "list", "--no-such-option", "--json"], "usage", "No such option"),
        (["approve", "apr", "--calls", "0", "--json"], "usage", "--calls"),
        (["ledger", "verify", "--json"], "usage", "FILE"),
        (["no-such-command", "--json"], "usage", "No such command"),
        (["ledger", "export", "/no/such/folder/x", "--json"], "file", "No such file"),
        (["approvals", "--as", "nobody", "--json"], "aborted", "no answer"),
    ],
)
def test_what_is_wrong_with_the_usage_is_told_in_json_where_json_is_asked_for(words, code, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(main, ["init"]).exit_code == 0
    told = CliRunner().invoke(main, words)
    assert told.exit_code == (1 if code == "aborted" else 2)
    error = json.loads(told.stdout)["error"]
    assert error["code"] == code
    assert message in error["message"]
    assert error["hint"]
    assert error["message"] in told.stderr, "and for people"
    assert "fault" not in told.stderr


def test_what_belongs_to_the_agent_s_command_is_not_ours():
    assert CliRunner().invoke(main, ["run", "--no-such", "--", "agent", "--json"]).stdout == ""


def test_who_reads_no_further_is_told_of_no_fault(tmp_path):
    """As in `remit ledger tail | head`."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "remit.cli.main"]
    subprocess.run([*command, "init"], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    done = subprocess.run([*command, "task", "list"], cwd=tmp_path, check=False, stdout=writer, stderr=subprocess.PIPE, timeout=60)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize("words", [["ledger", "show", "99999"], ["ledger", "proof", "99999"]], ids=" ".join)
def test_an_entry_that_there_is_not_is_not_found(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(main, ["init"]).exit_code == 0
    told = CliRunner().invoke(main, words)
    assert (told.exit_code, told.stdout) == (1, "")
    assert "the ledger has no entry 99999" in told.stderr
