"""Reads ``[telemetry]`` of ``remit.toml``: where traces are told, by OTLP over HTTP."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from remit.services.reading import VARIABLE, fill
from remit.settings import TelemetrySettings

if TYPE_CHECKING:
    from remit.services.reading import Reader

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}\Z")
_VALUE = re.compile(r"[\x20-\x7e]{0,4096}\Z")


def read_telemetry(root: Reader) -> TelemetrySettings:
    """The table's settings; what is wrong is noted."""
    table, defaults = root.table("telemetry"), TelemetrySettings()
    endpoint, service = table.value("endpoint", str, defaults.endpoint), table.value("service", str, defaults.service)
    percent = table.number("sample_percent", defaults.sample_percent, 100)
    if endpoint and not _is_address(endpoint):
        table.wrong(f"endpoint = {endpoint[:80]!r} is no address", 'endpoint = "http://127.0.0.1:4318/v1/traces"', "endpoint")
    if not 0 < len(service) <= 64:
        table.wrong("service must be a name of 1 to 64 characters", "", "service")
    headers: dict[str, str] = {}
    inner = table.table("headers")
    for name in inner.data:
        text = inner.value(name, str, "")
        headers[name] = fill(inner, text, name)
        if not _HEADER_NAME.match(name) or not _VALUE.match(headers[name]):
            inner.wrong(f"{name[:40]!r} cannot be sent as a header", "a plain name, a value of one line", name)
        elif not VARIABLE.search(text) and name.lower() in {"authorization", "x-api-key", "api-key"}:
            inner.wrong("a secret does not stand in remit.toml", f'{name} = "Bearer ${{VARIABLE}}"', name)
    table.done()
    return TelemetrySettings(endpoint=endpoint, headers=headers, service=service, sample_percent=percent)


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return False
    return (
        parts.scheme in {"http", "https"} and bool(parts.hostname) and "@" not in parts.netloc and not any(ord(sign) <= 32 for sign in text)
    )
