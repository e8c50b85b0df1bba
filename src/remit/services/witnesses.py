"""Has witnesses cosign the ledger's head (C2SP tlog-witness), so that nobody can be shown another log than they were.

Rules
* Each turn one head is published and shown to every witness with the proof that it continues what that witness saw. What was cosigned is
  kept, and from then on served; a head that nobody cosigned replaces nothing.
* A witness that is away, slow or wrong costs its own cosignature and nothing else: no call ever waits for a witness.
* A witness that has seen more than this log holds, or something that this log does not continue, is the alarm that witnesses are for:
  the store was set back, or somebody runs a second history. It is logged as an error at each turn, and counted.
* Only a cosignature by the configured key over exactly this head counts, whatever else an answer says.

Left out: how many cosignatures are enough. Whoever verifies decides that (C2SP tlog-policy).
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from remit.errors import Mistake, Outage, RemitError
from remit.logic.cosignature import add_checkpoint, cosignatures, cosigned, known_size

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from remit.drivers.outward import Answer, Reaches
    from remit.logic.cosignature import Witness
    from remit.services.ledger import Ledger

_LOG = logging.getLogger("remit")
_ANSWER_BYTES_MAX = 16_384
_OK, _CONFLICT, _UNPROVED = 200, 409, 422


class SplitView(Mistake):
    """A witness knows a history that this log does not continue."""

    default_code = "split_view"


class Witnesses:
    """Asks the configured witnesses."""

    def __init__(self, ledger: Ledger, reach: Reaches, witnesses: Sequence[Witness], every: timedelta) -> None:
        self._ledger, self._reach, self._every = ledger, reach, every
        self.witnesses = tuple(witnesses)
        self._known: dict[str, int] = {}  # how many entries each saw last, as far as we know
        self.alarms = 0  # split views that were told since the start

    async def run(self) -> None:
        """Ask again and again, until cancelled."""
        while True:
            try:
                await self.ask()
            except Outage as error:
                _LOG.warning("the ledger's witnesses were not asked: %s", error.message)
            except Exception as error:
                _LOG.error("a fault of remit in asking the ledger's witnesses", exc_info=error)
            await asyncio.sleep(self._every.total_seconds())

    async def ask(self) -> str:
        """One turn: the note as it is served afterwards. Raises Outage of the store."""
        served = await self._ledger.served()
        note = await self._ledger.publish()
        if _body(served) == _body(note):
            note = served  # the log stands still: ask those who have not said anything about it yet
        done = cosignatures(note, [one.key for one in self.witnesses])
        missing = [one for one in self.witnesses if one.key.name not in done]
        answers = await asyncio.gather(*(self._cosigned(one, note) for one in missing))
        whole = note + "".join(line for line in answers if line)
        if whole != note:
            await self._ledger.serve(whole)
        return await self._ledger.served()

    async def _cosigned(self, witness: Witness, note: str) -> str:
        """The line by which a witness cosigns a note; "" where it does not."""
        try:
            return (await self._ask(witness, note)).removeprefix(note)
        except SplitView as error:
            self.alarms += 1
            _LOG.error("witness %s: %s", witness.name, error.message)
        except RemitError as error:
            _LOG.warning("witness %s does not cosign: %s", witness.name, error.message)
        return ""

    async def _ask(self, witness: Witness, note: str) -> str:
        size = self._ledger.opened(note).size
        old = min(self._known.get(witness.name, 0), size)
        answer = await self._post(witness, old, size, note)
        if answer.status == _CONFLICT:
            old = known_size(answer.body)
            if old > size:
                await self._check_ahead(old)
            answer = await self._post(witness, old, size, note)
        if answer.status == _UNPROVED:
            raise SplitView(f"it has seen a history of {old} entries that this log does not continue")
        if answer.status != _OK:
            raise Outage(f"status {answer.status}", code="witness")
        whole = cosigned(note, witness.key, answer.body.decode("utf-8", "replace"))
        self._known[witness.name] = size
        return whole

    async def _check_ahead(self, old: int) -> None:
        """A witness has seen more than what we show it: of another node of ours just now, or of a log that we do not have."""
        head, _ = await self._ledger.checkpoint()
        if old > head.size:
            raise SplitView(
                f"it has seen {old} entries of this log, which holds {head.size}: the store was set back, or there are two logs"
            )
        raise Outage("another node has shown it more by now", code="witness")

    async def _post(self, witness: Witness, old: int, size: int, note: str) -> Answer:
        path = await self._ledger.consistency(old, size) if old else ()
        body = add_checkpoint(old, path, _body(note) + _own_line(note))
        return await self._reach.post(
            f"{witness.url}/add-checkpoint", body, {"content-type": "text/plain"}, private=witness.private, bytes_max=_ANSWER_BYTES_MAX
        )


def _body(note: str) -> str:
    """Text and empty line of a note, without its signatures."""
    return note.rpartition("\n\n")[0] + "\n\n"


def _own_line(note: str) -> str:
    """The log's own signature, which is the first."""
    return note.rpartition("\n\n")[2].partition("\n")[0] + "\n"
