"""All drills, in the order in which they are played."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit.cli.drills import (
    confused_deputy,
    hijacked_key,
    leaked_logs,
    prompt_change,
    shared_database,
    slow_exfiltration,
    tool_poisoning,
)
from remit.model.drill import Incident

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from remit.cli.drills.stage import Stage
    from remit.model.drill import Step

DRILLS: Mapping[Incident, tuple[str, Callable[[Stage], AsyncIterator[Step]]]] = {
    Incident.HIJACKED_KEY: (hijacked_key.TITLE, hijacked_key.play),
    Incident.LEAKED_LOGS: (leaked_logs.TITLE, leaked_logs.play),
    Incident.SHARED_DATABASE: (shared_database.TITLE, shared_database.play),
    Incident.TOOL_POISONING: (tool_poisoning.TITLE, tool_poisoning.play),
    Incident.CONFUSED_DEPUTY: (confused_deputy.TITLE, confused_deputy.play),
    Incident.SLOW_EXFILTRATION: (slow_exfiltration.TITLE, slow_exfiltration.play),
    Incident.PROMPT_CHANGE: (prompt_change.TITLE, prompt_change.play),
}
