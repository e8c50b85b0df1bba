"""Rules that find servers and clients which may do more than any one task needs. Each names what is broad, and why that matters.

Rules: a rule looks at what is granted, not at what a server is called, but for servers whose one purpose is to run any command. Pure.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from remit.logic.client_settings import arguments
from remit.logic.secret_values import database_address
from remit.model.scanning import Found, ServerEntry, Standing

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = re.compile(r"/|/(?:home|Users|root|etc|var|mnt)/?|[A-Za-z]:[\\/]{0,2}|[\\/]{2}")
_HOME = re.compile(
    r"~|\$\{?(?:HOME|env:HOME|userHome)\}?|%USERPROFILE%|\$\{env:USERPROFILE\}|(?:/home|/Users)/[^/]+|[A-Za-z]:[\\/]{1,2}Users[\\/]{1,2}[^\\/]+"
)
_FILES = re.compile(r"(?i)(?:^|[/@_-])(?:server-)?(?:filesystem|file-system|files?)(?:[-_]?(?:mcp|server))*(?:@[\w.-]+)?$")
_SHELL = re.compile(
    r"(?i)(?:^|[/@_-])(?:desktop-commander|(?:mcp-)?(?:server-)?(?:commands|shell|terminal|cli-mcp))(?:[-_]?(?:mcp|server))*(?:@[\w.-]+)?$"
)
_ALL_FLAGS = re.compile(
    r"--(?:allow-all(?:-[a-z-]+)?|dangerously-[a-z-]+|yolo|unsafe(?:-[a-z-]+)?|no-sandbox|privileged|skip-permissions|full-access|"
    r"disable-(?:security|auth|authentication|authorization|permissions|sandbox)|no-auth|bypass-[a-z-]+)(?:=(?:true|1|yes|on))?"
)
_MOUNT = re.compile(
    r"(?:type=bind,)?(?:source=|src=)?(/|/(?:home|Users|root|etc|var)|/var/run/docker\.sock|/run/docker\.sock|\$\{?HOME\}?|~)(?::|,).*"
)
_SUPERUSERS = {
    "postgresql": {"postgres"},
    "postgres": {"postgres"},
    "mysql": {"root"},
    "mariadb": {"root"},
    "mongodb": {"root", "admin"},
    "redis": {"", "default"},
    "rediss": {"", "default"},
    "mssql": {"sa"},
}
_USER_NAMES = {"PGUSER": "postgres", "POSTGRES_USER": "postgres", "MYSQL_USER": "root", "DB_USER": "root", "MSSQL_USER": "sa"}
_SCOPE_NAME = re.compile(r"(?i)(?:^|[_-])scopes?$")
_WIDE_SCOPES = {
    "*": "everything",
    "*:*": "everything",
    "admin": "administration",
    "repo": "every repository of the account, for reading and writing",
    "admin:org": "administration of the organisation",
    "https://www.googleapis.com/auth/cloud-platform": "all of the cloud account",
    "https://www.googleapis.com/auth/drive": "every file of the account",
    "https://mail.google.com/": "every mail of the account, for reading, sending and deleting",
    "mail.readwrite.all": "every mailbox of the organisation",
    "files.readwrite.all": "every file of the organisation",
    "directory.readwrite.all": "the directory of the organisation",
}
_ANY_TOOL = re.compile(r"\*|(?:Bash|Write|Edit|WebFetch|mcp__[^()]*)(?:\((?:\*|:\*)?\))?|mcp__\*|[A-Za-z_]+\(\*\)")
_GATEWAY = "put the server behind remit: the task's [[grant]] lines say which tools and arguments, the catalog what needs a person"


def broad_server(server: ServerEntry) -> Iterator[Found]:
    """What is broad in a server's entry."""
    words = (server.command, *server.args)
    flags = [word for word in server.args if _ALL_FLAGS.fullmatch(word)]
    if server.command.rpartition("/")[2] == "deno" and "-A" in server.args:
        flags.append("-A")
    if flags:
        what = f"started with {flags[0].partition('=')[0]}, which switches its own limits off"
        yield _broad("allow-all", server, what, f"leave the flag out; {_GATEWAY}")
    if any(_FILES.search(word) for word in words[:6]):
        for word in server.args:
            if _ROOT.fullmatch(word) or _HOME.fullmatch(word.rstrip("/\\")):
                what = (
                    "a file server for the whole disk" if _ROOT.fullmatch(word) else "a file server for a whole home folder, keys and all"
                )
                instead = (
                    'name the folder that is worked in, and in the task arguments.properties.path with a const or a pattern ("{document}")'
                )
                yield _broad("filesystem-root", server, what, instead)
                break
    if any(_SHELL.search(word) for word in words[:6]):
        what = "it runs any command of the account: whatever the account may do, the agent may"
        yield _broad("any-command", server, what, f"a server with just the tools that tasks need; {_GATEWAY}")
    for word in server.args:
        mount = _MOUNT.fullmatch(word.removeprefix("--volume=").removeprefix("--mount="))
        if mount:
            what = (
                "the container gets the container engine's socket" if "docker.sock" in mount[1] else "the container gets the host's files"
            )
            yield _broad("host-mount", server, what, "mount the one folder that is worked in, read-only where that is enough")
            break
    yield from _superuser(server)
    yield from _scopes(server)
    yield from _approvals(server)


def _superuser(server: ServerEntry) -> Iterator[Found]:
    texts = [*server.environment.values(), *(text for _, _, text in arguments(server.args)), server.url]
    for text in texts:
        scheme, user, _ = database_address(text)
        if scheme and user in _SUPERUSERS.get(scheme.partition("+")[0], ()):
            yield _broad("database-superuser", server, _super(scheme, user), _LEASED)
            return
    for name, value in server.environment.items():
        if value and _USER_NAMES.get(name.upper()) == value:
            yield _broad("database-superuser", server, _super("", value), _LEASED)
            return


def _super(scheme: str, user: str) -> str:
    account = f"as {user!r}" if user else "as its default user"
    return f"it logs in to a {scheme or 'database'} server {account}, who may do everything there"


_LEASED = "a [targets.NAME] of that kind and a [[lease]] in the task: an account for the task's own tables or keys, gone with the task"


def _scopes(server: ServerEntry) -> Iterator[Found]:
    named = [*server.environment.items(), *((name, text) for _, name, text in arguments(server.args))]
    for name, text in named:
        if not _SCOPE_NAME.search(name):
            continue
        for scope in re.split(r"[\s,]+", text)[:200]:
            if scope.lower() in _WIDE_SCOPES:
                what = f"it asks for the scope {scope!r}: {_WIDE_SCOPES[scope.lower()]}"
                yield _broad("wide-scope", server, what, "ask for the scopes that one task type needs; one client a task type")
                return


def _approvals(server: ServerEntry) -> Iterator[Found]:
    for key in ("alwaysAllow", "autoApprove", "autoAllow"):
        value = server.raw.get(key)
        if value is True or (isinstance(value, list) and "*" in value):
            yield _broad(
                "auto-approve", server, f"its client runs every tool of it unasked ({key})", f"approve by rule, not by habit; {_GATEWAY}"
            )
            return
    if server.raw.get("trust") is True:
        yield _broad("auto-approve", server, "its client runs every tool of it unasked (trust)", f"leave trust out; {_GATEWAY}")


def broad_client(data: object) -> Iterator[Found]:
    """What is broad in a client's own settings."""
    if not isinstance(data, dict):
        return
    permissions = _table(data, "permissions")
    if permissions.get("defaultMode") == "bypassPermissions":
        yield _client("/permissions/defaultMode", "the client asks for nothing (bypassPermissions)")
    allowed = permissions.get("allow")
    for number, rule in enumerate(allowed[:1_000] if isinstance(allowed, list) else ()):
        if isinstance(rule, str) and _ANY_TOOL.fullmatch(rule):
            yield _client(f"/permissions/allow/{number}", f"{rule[:60]!r} lets a whole tool run unasked, whatever its arguments")
    if data.get("enableAllProjectMcpServers") is True:
        yield _client("/enableAllProjectMcpServers", "servers of any folder that is opened are started unasked")
    for key in ("chat.tools.autoApprove", "chat.tools.global.autoApprove"):
        if data.get(key) is True:
            yield _client(f"/{key}", "every tool runs unasked")
    if data.get("approval_policy") == "never" and data.get("sandbox_mode") == "danger-full-access":
        yield _client("/sandbox_mode", "the client runs anything, anywhere, unasked")


def _client(where: str, what: str) -> Found:
    instead = f"allow by name and argument; {_GATEWAY}"
    return Found(standing=Standing.BROAD, kind="auto-approve", where=where, what=what, instead=instead)


def _broad(kind: str, server: ServerEntry, what: str, instead: str) -> Found:
    return Found(standing=Standing.BROAD, kind=kind, where=server.where, what=what, instead=instead, server=server.name)


def _table(data: dict[Any, Any], key: str) -> dict[Any, Any]:
    value = data.get(key)
    return value if isinstance(value, dict) else {}
