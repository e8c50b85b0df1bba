"""What another process does for ``verifying.py``: it reads stretches of a file by itself and says in short what they come to.

Rules: it is told where a stretch begins and how long its blocks are, one line an errand, and answers in the order asked. It holds one
stretch at a time. It judges nothing: where it has no answer, or is gone, the stretch is gone through by who asked. No pool of
``concurrent.futures``: its processes look for modules in the folder one stands in, and open the file anew by its path.
"""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
from typing import IO, TYPE_CHECKING

import msgspec

from remit.logic.audit_stretch import Stretch, stretch_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Self

_LENGTH = struct.Struct(">I")
_ANSWER = msgspec.msgpack.Decoder(Stretch | None)
_PROGRAM = "import sys; sys.path[:] = sys.argv[2:]; from remit.services.verifying_errands import work; work(int(sys.argv[1]))"


class Helper:
    """One such process. It ends with its block, or with the process that began it."""

    def __init__(self, file: int) -> None:
        """``file``: a file that is open here; it reads the same, whatever stands at its path by now. Raises OSError."""
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(_command(file), stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, pass_fds=(file,))
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._errands, self._answers = self._process.stdin, self._process.stdout

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()  # it has nothing that could be lost
        self._process.communicate()

    def ask(self, begin: int, lengths: Sequence[int]) -> None:
        """Begin an errand: blocks of these lengths, one behind the other."""
        try:
            self._errands.write(" ".join(map(str, (begin, *lengths))).encode() + b"\n")
            self._errands.flush()
        except BrokenPipeError:
            pass  # then there is no answer either

    def answer(self) -> Stretch | None:
        """What the oldest errand came to; ``None`` where it did not fit, or the process is gone."""
        head = self._answers.read(_LENGTH.size)
        if len(head) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack(head)
        data = self._answers.read(length)
        return _ANSWER.decode(data) if len(data) == length else None


def work(file: int) -> None:
    """In the process of its own: errands from standard input, until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who began it ends it
    try:
        for line in sys.stdin.buffer:
            begin, *lengths = map(int, line.split())
            _tell(sys.stdout.buffer, stretch_of(_blocks(file, begin, lengths)))
    except BrokenPipeError:
        os._exit(0)


def _command(file: int) -> list[str]:
    """Modules come from where this process has them, never from the folder that somebody happens to stand in (-P)."""
    return [sys.executable, "-P", "-c", _PROGRAM, str(file), *sys.path]


def _blocks(file: int, begin: int, lengths: Sequence[int]) -> Iterator[bytes]:
    for length in lengths:
        yield os.pread(file, length, begin)
        begin += length


def _tell(out: IO[bytes], stretch: Stretch | None) -> None:
    data = msgspec.msgpack.encode(stretch)
    out.write(_LENGTH.pack(len(data)) + data)
    out.flush()
