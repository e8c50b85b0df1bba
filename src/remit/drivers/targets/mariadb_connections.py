"""Connections with a MariaDB: PyMySQL in threads, and what is quoted for them.

Rules
* As many threads as a target may have conversations. A thread begins no statement after its caller is gone, or is late; every wait for
  the server ends, on its side too. So a cancelled caller leaves no connection, and what it asked for happens soon or never.
* A connection is put back whole, or closed. Texts and names are quoted for the mode of SQL that ``_SETUP`` sets, and for no other.
* Without TLS no server is shown the password itself, whatever it asks for. With TLS the server proves itself first.

Left out: what is asked (``mariadb.py``).
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote, urlsplit

import pymysql
import pymysql.err

from remit.errors import Mistake, Outage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from remit.drivers.targets.base import TargetSettings

T = TypeVar("T")
Rows = tuple[tuple[Any, ...], ...]
_CONNECT_SECONDS = 5
_ANSWER_SECONDS = 8
_BEGIN_SECONDS = 10.0  # no statement is begun later: with the answer's wait it stays below MINT_SECONDS
_PORT = 3306
_NOT_LET_IN = frozenset({1045, 1130, 1698, 3118, 4151})
_REFUSED = frozenset({1044, 1049, 1054, 1102, 1103, 1110, 1142, 1143, 1144, 1146, 1147, 1166, 1227, 1396, 1410, 1470})
_SETUP = (
    "SET SESSION sql_mode = 'STRICT_TRANS_TABLES,NO_AUTO_CREATE_USER,NO_ENGINE_SUBSTITUTION', time_zone = '+00:00',"
    " lock_wait_timeout = 5, max_statement_time = 7"
)


class _LateError(Exception):
    """The caller is gone, or has waited long enough."""


@dataclass(slots=True)
class _Errand:
    """One caller's wait. ``over`` is set when nobody waits any more; ``sent``: whether a statement may have reached the server."""

    until: float
    over: threading.Event
    sent: bool = False


class _Refused:
    """A way of logging in that shows the password to whoever asks for it."""

    def __init__(self, db: pymysql.Connection[Any]) -> None:
        del db

    def authenticate(self, packet: object) -> object:
        """Never."""
        del packet
        raise pymysql.err.OperationalError(2059, "not without TLS")


class Session:
    """A connection, and for whom it works at the moment."""

    def __init__(self, db: pymysql.Connection[Any]) -> None:
        self._db, self.errand = db, _Errand(until=0.0, over=threading.Event())

    def run(self, statement: str, values: tuple[object, ...] = ()) -> Rows:
        """One statement and its rows. ``values`` are put in for ``%s``; without them nothing is. Raises pymysql.Error, _LateError."""
        if self.errand.over.is_set() or time.monotonic() > self.errand.until:
            raise _LateError
        self.errand.sent = True
        with self._db.cursor() as cursor:
            cursor.execute(statement, values or None)
            return tuple(cursor.fetchall())

    def close(self) -> None:
        """Let go."""
        with contextlib.suppress(pymysql.Error):
            self._db.close()


class Connections:
    """Those of one target."""

    def __init__(self, settings: TargetSettings, secret: Callable[[], Awaitable[str]]) -> None:
        self._name, self._secret = settings.name, secret
        known = urlsplit(str(settings.values["url"]))
        self.host, self.port, self._user = known.hostname or "", known.port or _PORT, unquote(known.username or "")
        self.database = unquote(known.path.removeprefix("/"))
        self.tls, self.authorities = bool(settings.values["tls"]), str(settings.values["ca_file"])
        self._threads = ThreadPoolExecutor(settings.connections, thread_name_prefix=f"target-{settings.name}")
        self._free: list[Session] = []

    async def work(self, work: Callable[[Session], T]) -> T:
        """In a thread, with a connection of our own that is put back whole, or closed. Raises Mistake, Outage."""
        password = await self._secret()
        errand = _Errand(until=time.monotonic() + _BEGIN_SECONDS, over=threading.Event())
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._run, work, errand, password)
        finally:
            errand.over.set()

    def close(self) -> None:
        """Let go of all. Idempotent."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        free, self._free = self._free, []
        for session in free:
            session.close()

    def _run(self, work: Callable[[Session], T], errand: _Errand, password: str) -> T:
        try:
            session = self._fresh(errand, password)
        except (pymysql.Error, OSError, _LateError) as error:
            code = "target_refused" if _code(error) in _NOT_LET_IN else "target_unavailable"
            raise Outage(f"target {self._name} cannot be reached", code=code, unsent=True) from None
        except RuntimeError:  # what PyMySQL raises for a digest of passwords that it cannot do
            raise Outage(f"target {self._name} wants another way of logging in", code="target_refused", unsent=True) from None
        errand.sent = False
        try:
            result = work(session)
        except pymysql.Error as error:
            if not refused(error):
                session.close()
                raise self._outage("did not answer in time, or cannot do it now") from None
            self._free.append(session)
            raise Mistake(
                f"target {self._name} refuses this (error {_code(error)})",
                code="target_refused",
                hint="remit doctor checks the rights; the scope may name what is not there",
            ) from None
        except (_LateError, OSError):
            session.close()
            raise Outage(f"target {self._name} did not answer in time", code="target_unavailable", unsent=not errand.sent) from None
        except BaseException:
            session.close()
            raise
        self._free.append(session)
        return result

    def _fresh(self, errand: _Errand, password: str) -> Session:
        while self._free:
            try:
                session = self._free.pop()
            except IndexError:  # another thread was first
                break
            session.errand = errand
            try:
                session.run("DO 0")  # one that the server has closed meanwhile is found out before anything depends on it
            except (pymysql.Error, OSError):
                session.close()
            else:
                return session
        session = Session(self._connect(password))
        session.errand = errand
        try:
            session.run(_SETUP)
        except BaseException:
            session.close()
            raise
        return session

    def _connect(self, password: str) -> pymysql.Connection[Any]:
        context = ssl.create_default_context(cafile=self.authorities or None) if self.tls else None
        return pymysql.connect(
            host=self.host,
            port=self.port,
            user=self._user,
            password=password,
            database=self.database,
            charset="utf8mb4",
            autocommit=True,
            connect_timeout=_CONNECT_SECONDS,
            read_timeout=_ANSWER_SECONDS,
            write_timeout=_ANSWER_SECONDS,
            ssl=context,
            ssl_disabled=context is None,
            auth_plugin_map={} if context else {"mysql_clear_password": _Refused, "dialog": _Refused},
            program_name="remit",
        )

    def _outage(self, what: str) -> Outage:
        return Outage(f"target {self._name} {what}", code="target_unavailable")


def refused(error: BaseException) -> bool:
    """Whether an error is the server's no to this one request, and nothing else is wrong."""
    return _code(error) in _REFUSED


def text(value: str) -> str:
    """A quoted text."""
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def quoted(name: str) -> str:
    """A quoted name."""
    return "`" + name.replace("`", "``") + "`"


def _code(error: BaseException) -> int:
    number = error.args[0] if error.args else 0
    return number if isinstance(number, int) else 0
