"""Polls the endpoints of transmitters that are polled (RFC 8936), takes in what comes, and acknowledges it.

Rules: what was taken in is acknowledged, what was refused is told so with its code, and what could not be taken in now comes again. A
failure is backed off, doubled each time; tokens of one answer and answers in a row are bounded. A token whose answer names it by another
id than it bears is taken by what it bears.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import msgspec

from remit.errors import Mistake, Outage, RemitError
from remit.logic.arguments import parse_json
from remit.services.signals import poll_answer

if TYPE_CHECKING:
    from remit.drivers.outward import Reaches
    from remit.model.signal import TransmitterRule
    from remit.services.signals import Signals

_LOG = logging.getLogger("remit")
_SETS_MAX, _ROUNDS_MAX, _ANSWER_BYTES_MAX = 50, 20, 8_388_608
_WAIT_SECONDS_MAX = 300.0
_OK = 200


class SignalPolls:
    """One poll loop a transmitter."""

    def __init__(self, signals: Signals, reach: Reaches) -> None:
        self._signals, self._reach = signals, reach

    async def run(self) -> None:
        """Poll until cancelled."""
        polled = [rule for rule in self._signals.rules.values() if rule.poll]
        async with asyncio.TaskGroup() as group:
            for rule in polled:
                group.create_task(self._poll(rule))

    async def _poll(self, rule: TransmitterRule) -> None:
        every = rule.poll_every.total_seconds()
        wait = every
        while True:
            try:
                await self.poll_once(rule)
                wait = every
            except RemitError as error:
                if wait == every:
                    _LOG.warning("transmitter %s cannot be polled: %s", rule.name, error.message)
                wait = min(wait * 2, max(_WAIT_SECONDS_MAX, every))
            except Exception as error:
                _LOG.error("a fault of remit while it polls transmitter %s", rule.name, exc_info=error)
                wait = max(_WAIT_SECONDS_MAX, every)
            await asyncio.sleep(wait)

    async def poll_once(self, rule: TransmitterRule) -> int:
        """Take in all that waits there, within bounds; how many tokens were new or refused. Raises Mistake, Outage."""
        taken = 0
        acks: list[str] = []
        refused: dict[str, dict[str, str]] = {}
        for _ in range(_ROUNDS_MAX):
            sets, more = await self._asked(rule, acks, refused)
            acks, refused, held = [], {}, False
            for jti, token in list(sets.items())[:_SETS_MAX]:
                try:
                    await self._signals.take(rule, token.encode("utf-8", "surrogatepass"), "poll")
                    acks.append(jti)
                except Mistake as refusal:
                    refused[jti] = {"err": refusal.code, "description": refusal.message}
                except Outage as outage:
                    held = True
                    _LOG.warning("a signal of transmitter %s waits: %s", rule.name, outage.message)
            taken += len(acks) + len(refused)
            if not (acks or refused) and (held or not more):
                return taken
        return taken

    async def _asked(self, rule: TransmitterRule, acks: list[str], refused: dict[str, dict[str, str]]) -> tuple[dict[str, str], bool]:
        body = {"maxEvents": _SETS_MAX, "returnImmediately": True, "ack": acks, "setErrs": refused}
        headers = {
            "content-type": "application/json",
            "accept": "application/json",
            "authorization": f"Bearer {rule.poll_secret}",
        }
        answer = await self._reach.post(rule.poll, msgspec.json.encode(body), headers, private=rule.private, bytes_max=_ANSWER_BYTES_MAX)
        if answer.status != _OK:
            raise Outage(f"its poll endpoint answers {answer.status}", code="peer_unavailable")
        return poll_answer(parse_json(answer.body, bytes_max=_ANSWER_BYTES_MAX))
