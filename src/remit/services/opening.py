"""Opens tasks: for a declared agent, of a type it may be given, with checked inputs, on somebody's behalf."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remit.errors import NotFound, Refusal
from remit.logic.leases import open_leases, terms_line
from remit.logic.manifest import check_parts, check_required
from remit.logic.task_types import checked_inputs, fill_objective, open_grant
from remit.logic.tree import delegable_line
from remit.model.catalog import Kind
from remit.model.record import GrantLine, SumLine, TaskOpened
from remit.model.task import TaskState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from remit.model.catalog import PinnedTool
    from remit.model.grant import Grant
    from remit.model.manifest import Parts
    from remit.model.task import Task
    from remit.services.rules import Rules
    from remit.services.tasks import Tasks


class Dispatcher:
    """The only way a task begins."""

    def __init__(self, tasks: Tasks, rules: Rules, clock: Callable[[], datetime]) -> None:
        self._tasks, self._rules, self._clock = tasks, rules, clock

    async def open(
        self,
        *,
        agent: str,
        task_type: str,
        inputs: Mapping[str, Any],
        on_behalf_of: str,
        opened_by: str,
        manifest: Parts | None = None,
        on_behalf_proof: str = "",
    ) -> Task:
        """An active task, bound to the manifest its agent is started with. ``on_behalf_proof``: what proved whom it runs for ("" :
        somebody says so). Raises NotFound, Refusal (not this agent's, or a part of the manifest is missing), Mistake (inputs, manifest),
        Outage.
        """
        configuration, rulebook = self._rules.configuration, self._rules.rulebook
        declared = configuration.agents.get(agent)
        if declared is None:
            known = ", ".join(sorted(configuration.agents)) or "none"
            raise NotFound(f"no agent {agent[:80]!r} is declared", hint=f"declared in remit.toml: {known}")
        kind = configuration.task_types.get(task_type)
        if kind is None:
            known = ", ".join(sorted(configuration.task_types)) or "none"
            raise NotFound(f"there is no task type {task_type[:80]!r}", hint=f"tasks/*.toml has: {known}")
        if task_type not in declared.tasks:
            raise Refusal(
                f"agent {agent} may not be given {task_type}",
                code="task_type_not_allowed",
                hint=f"its tasks in remit.toml: {', '.join(declared.tasks) or 'none'}",
            )
        parts = check_parts(manifest or {})
        check_required((*kind.required, *declared.manifest.required), parts)
        values = checked_inputs(kind, inputs)
        grants = open_grant(kind, values)
        opened = TaskOpened(
            type=task_type,
            agent=declared.spiffe_id.text,
            on_behalf_of=on_behalf_of,
            opened_by=opened_by,
            objective=fill_objective(kind, values),
            inputs=values,
            grants=[
                GrantLine(
                    kind=grant.kind.value,
                    server=grant.server,
                    name=grant.name,
                    arguments=grant.arguments,
                    uses=grant.uses,
                    autonomy=grant.autonomy,
                    approved_values=grant.approved_values,
                )
                for grant in grants
            ],
            tools=_granted_tools(grants, rulebook.pinned),
            ceiling=kind.data_ceiling,
            budget_calls=kind.budget.calls,
            deadline=self._clock() + kind.deadline,
            configuration=rulebook.digest,
            rate_calls=kind.budget.rate_calls,
            rate_seconds=kind.budget.rate_seconds,
            bytes_read=kind.budget.bytes_read,
            resources=kind.budget.resources,
            sums=[
                SumLine(name=one.name, tool=one.tool, argument=one.argument, maximum=f"{one.maximum:f}", counted=one.counted)
                for one in kind.budget.sums
            ],
            autonomy=dict(kind.autonomy),
            self_service=kind.self_service,
            watched=kind.watched,
            on_behalf_proof=on_behalf_proof,
            manifest=parts,
            drift=dict(kind.drift),
            leases=[terms_line(one) for one in open_leases(kind.leases, values)],
            preauthorized_seconds=int(kind.preauthorized_reads.total_seconds()) if kind.preauthorized_reads else 0,
            delegable=delegable_line(kind.delegable),
        )
        task = await self._tasks.open(opened)
        return await self._tasks.move(task.id, TaskState.ACTIVE, by=opened_by)


def _granted_tools(grants: tuple[Grant, ...], pinned: Mapping[str, PinnedTool]) -> dict[str, str]:
    """Digest of every pinned tool that the grant speaks of: the task's part of the manifest."""
    return {tool.id: tool.digest for tool in pinned.values() if any(grant.names(Kind.TOOL, tool.server, tool.name) for grant in grants)}
