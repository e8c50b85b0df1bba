"""Finds personal data and credentials in texts, by well-kept libraries' patterns and check digits. Pure; asks nobody.

Rules: a finding only raises a data class, so a false one costs a question and a missed one is what the catalog said anyway. What
is longer than can be looked at counts as found. The libraries hold large tables: they are loaded when they are first needed.
"""

from __future__ import annotations

import re
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

TEXT_CHARACTERS_MAX = 262_144
_SLOW = frozenset({"NpmDetector", "OpenAIDetector"})  # their patterns cost the square of a hostile text's length
_WINDOW, _OVERLAP = 2_048, 512
_ADDRESS = re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
_CARD = re.compile(r"(?<!\d)\d(?:[ -]?\d){12,18}(?!\d)")
_SSN = re.compile(r"(?<!\d)\d{3}-\d{2}-\d{4}(?!\d)")


class Detector(StrEnum):
    """What can be looked for."""

    CREDENTIALS = "credentials"
    PERSONAL = "personal"


class _Plugin(Protocol):
    secret_type: str

    def analyze_string(self, string: str) -> Iterable[str]:
        """Secrets in a text."""


def detected(text: str, detectors: Sequence[Detector]) -> frozenset[Detector]:
    """Which of these a text holds."""
    if len(text) > TEXT_CHARACTERS_MAX:
        return frozenset(detectors)
    return frozenset(detector for detector in detectors if _HOLDS[detector](text))


def credential_kinds(text: str) -> Iterator[tuple[str, str]]:
    """Kind and wording of each credential that a text holds, as far as their formats are known."""
    for plugin in _plugins():
        for piece in _windows(text) if type(plugin).__name__ in _SLOW else (text,):
            for found in plugin.analyze_string(piece):
                yield plugin.secret_type, found


def _windows(text: str) -> Iterator[str]:
    """A text in pieces that overlap by more than any format is long."""
    for start in range(0, max(len(text) - _OVERLAP, 1), _WINDOW - _OVERLAP):
        yield text[start : start + _WINDOW]


def _holds_credentials(text: str) -> bool:
    return any(True for _ in credential_kinds(text))


def _holds_personal_data(text: str) -> bool:
    import phonenumbers
    from stdnum import iban, luhn
    from stdnum.us import ssn

    return (
        _ADDRESS.search(text) is not None
        or any(iban.is_valid(found) for found in _IBAN.findall(text))
        or any(luhn.is_valid(re.sub(r"[ -]", "", found)) for found in _CARD.findall(text))
        or any(ssn.is_valid(found) for found in _SSN.findall(text))
        or ("+" in text and any(True for _ in phonenumbers.PhoneNumberMatcher(text, None)))
    )


@cache
def _plugins() -> tuple[_Plugin, ...]:
    from detect_secrets.plugins import (
        aws,
        azure_storage_key,
        basic_auth,
        discord,
        github_token,
        gitlab_token,
        jwt,
        npm,
        openai,
        private_key,
        pypi_token,
        sendgrid,
        slack,
        stripe,
        telegram_token,
        twilio,
    )

    return (
        aws.AWSKeyDetector(),
        azure_storage_key.AzureStorageKeyDetector(),
        basic_auth.BasicAuthDetector(),
        discord.DiscordBotTokenDetector(),
        github_token.GitHubTokenDetector(),
        gitlab_token.GitLabTokenDetector(),
        jwt.JwtTokenDetector(),
        npm.NpmDetector(),
        openai.OpenAIDetector(),
        private_key.PrivateKeyDetector(),
        pypi_token.PypiTokenDetector(),
        sendgrid.SendGridDetector(),
        slack.SlackDetector(),
        stripe.StripeDetector(),
        telegram_token.TelegramBotTokenDetector(),
        twilio.TwilioKeyDetector(),
    )


_HOLDS = {Detector.CREDENTIALS: _holds_credentials, Detector.PERSONAL: _holds_personal_data}
