"""Posts signed messages to configured addresses (Standard Webhooks 1.0: webhook-id, webhook-timestamp, webhook-signature).

Rules: only the address that was configured is ever contacted; no redirects, no cookies, no proxies from the environment. Every wait
is bounded, and of an answer only its status counts. An address may hold a secret, so it is in no error and no log.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from datetime import datetime

_SECONDS_MAX = 10.0
_OK, _REDIRECTS, _GONE = 200, 300, 410
_RETRY_AFTER_MAX = 3_600


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """How it went. ``what``: a few words for the log. ``final``: trying again is of no use."""

    delivered: bool
    what: str
    final: bool = False
    retry_after_seconds: int = 0


def signature(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """``v1,`` + base64(HMAC-SHA256(key, id.timestamp.body)), as the receiver recomputes it."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


class WebhookClient:
    """Sends messages with the process's one HTTP client."""

    def __init__(self, client: aiohttp.ClientSession, seconds_max: float = _SECONDS_MAX) -> None:
        """``client`` is shared and not closed here."""
        self._client, self._seconds_max = client, seconds_max

    async def post(self, address: str, key: bytes, message_id: str, now: datetime, body: bytes) -> Delivery:
        """Send one message once. Never raises for what the receiver does."""
        timestamp = int(now.timestamp())
        headers = {
            "content-type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(key, message_id, timestamp, body),
        }
        try:
            async with (
                asyncio.timeout(self._seconds_max),
                self._client.post(address, data=body, headers=headers, allow_redirects=False) as answer,
            ):
                return _judged(answer.status, answer.headers.get("retry-after", ""))
        except TimeoutError:
            return Delivery(delivered=False, what="no answer in time")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Delivery(delivered=False, what=type(error).__name__)


def _judged(status: int, retry_after: str) -> Delivery:
    wait = min(int(retry_after), _RETRY_AFTER_MAX) if retry_after.isascii() and retry_after.isdigit() and len(retry_after) < 8 else 0
    return Delivery(delivered=_OK <= status < _REDIRECTS, what=f"status {status}", final=status == _GONE, retry_after_seconds=wait)
