"""Keeps secrets out of remit's own log: a filter that looks through each line, and through the tracebacks beside it.

Left out: what other libraries log under names of their own.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_FORMAT = logging.Formatter()


class Scrubbing(logging.Filter):
    """Replaces what a record says. ``scrub``: text → text without secrets; never raises."""

    def __init__(self, scrub: Callable[[str], str]) -> None:
        super().__init__()
        self._scrub = scrub

    def filter(self, record: logging.LogRecord) -> bool:
        """See logging.Filter: every record passes."""
        said = record.getMessage()
        scrubbed = self._scrub(said)
        if scrubbed != said:
            record.msg, record.args = scrubbed, None
        if record.exc_info:
            told = _FORMAT.formatException(record.exc_info) if record.exc_info[0] else ""
            if (scrubbed := self._scrub(told)) != told:
                record.exc_info, record.exc_text = None, scrubbed
        return True


def scrub_log(scrub: Callable[[str], str]) -> Callable[[], None]:
    """From now on remit's log passes through ``scrub``; what it returns ends that."""
    log, scrubbing = logging.getLogger("remit"), Scrubbing(scrub)
    log.addFilter(scrubbing)
    return lambda: log.removeFilter(scrubbing)
