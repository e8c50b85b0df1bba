"""The controls that reports speak of, as data: what each enforces, which counts show it, which would contradict it. Pure.

Rules
* ``shows``: one of them above 0 in the period shows the control at work. ``tells``: further counts that are printed with it and show
  nothing by themselves. ``against``: any of them above 0 contradicts it.
* A count that every installation has (an entry, a decision) shows only the control that it is about.
* A drill counts by its latest run in the period, and by what came of its steps that bear on the control (``whole_drills``: of all of them).
* ``settings``, ``against_settings``: keys of ``services/coverage.py``; one of the latter that is on contradicts.
* Sentences say what remit does, never what it prevents.
"""

from __future__ import annotations

from dataclasses import dataclass

from remit.model.drill import Incident

I = Incident  # noqa: E741 - the column of drills below stays readable


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One control. ``evidence``: its key in the table of evidence of docs/evidence.md."""

    key: str
    evidence: str
    enforces: str
    shows: tuple[str, ...]
    tells: tuple[str, ...] = ()
    against: tuple[str, ...] = ()
    drills: tuple[Incident, ...] = ()
    settings: tuple[str, ...] = ()
    against_settings: tuple[str, ...] = ()
    whole_drills: bool = False


RULES: tuple[Rule, ...] = (
    Rule(
        key="decided",
        evidence="E1",
        enforces="Every call is decided when it is made, by the organisation's policy and the task's grant together, and recorded before "
        "it is forwarded.",
        shows=("calls.decided",),
        tells=("calls.allow", "calls.ask", "calls.deny", "calls.finished", "because.permitted", "because.approved"),
        against=("calls.allowed_outside_life",),
        settings=("policies", "task types", "tools"),
    ),
    Rule(
        key="fail-safe",
        evidence="E1",
        enforces="What is unknown, or cannot be evaluated, is denied.",
        shows=(
            "because.tool_unknown",
            "because.policy_error",
            "because.no_task",
            "because.type_unknown",
            "because.action_unknown",
            "because.property_unusable",
            "because.amount_unclear",
        ),
        settings=("policies", "servers pinned"),
    ),
    Rule(
        key="least-agency",
        evidence="E2",
        enforces="A task may call what its grant names, with arguments inside the narrowed schema, so many times, and nothing else.",
        shows=(
            "because.not_granted",
            "because.arguments_outside_grant",
            "because.arguments_invalid",
            "because.uses_exhausted",
            "because.wrong_agent",
        ),
        tells=("tasks.opened", "tasks.narrowed"),
        drills=(I.TOOL_POISONING,),
        settings=("task types", "grants that narrow arguments", "grants of everything"),
    ),
    Rule(
        key="policy",
        evidence="E1",
        enforces="The organisation's policy refuses what the grant alone would have allowed.",
        shows=("because.policy_forbids", "because.no_policy_permits"),
        tells=("policies.activated", "because.policy_error"),
        drills=(I.TOOL_POISONING,),
        settings=("policies", "policies.bundle"),
    ),
    Rule(
        key="origins",
        evidence="E6",
        enforces="An argument must come from where the grant says; a value of a stranger, or one seen nowhere, is refused.",
        shows=("because.origin_unknown", "because.origin_not_admitted"),
        tells=("origins.traced",),
        drills=(I.TOOL_POISONING,),
        settings=("grants that demand origins",),
    ),
    Rule(
        key="labels",
        evidence="E6",
        enforces="What a task has read raises its labels for good, and policy decides by them; data above the task's ceiling is not read.",
        shows=("labels.carried", "labels.raised", "because.above_ceiling"),
        tells=("labels.lowered",),
        drills=(I.TOOL_POISONING,),
        settings=("data.classes", "data ceilings", "tools with a stated class"),
    ),
    Rule(
        key="exfiltration",
        evidence="E6",
        enforces="What has been read does not leave in a call that nobody permits for it, however small the pieces.",
        shows=(),
        tells=("labels.carried", "because.above_ceiling", "because.budget_exhausted"),
        drills=(I.SLOW_EXFILTRATION,),
        settings=("tools that send outside", "budgets"),
    ),
    Rule(
        key="approvals",
        evidence="E5",
        enforces="A person answers for what policy leaves to persons: exactly one call, or a described class of calls.",
        shows=("approvals.granted", "approvals.denied"),
        tells=(
            "calls.ask",
            "approvals.shown",
            "approvals.by_passkey",
            "because.approved",
            "because.approval_refused",
            "because.too_many_questions",
        ),
        drills=(I.TOOL_POISONING,),
        settings=("approvals.ttl", "approvers", "approvals.four_eyes", "approvals.passkey"),
    ),
    Rule(
        key="people",
        evidence="E5",
        enforces="Whoever looks or acts in the console has proved who they are, and does what the roles that are configured for them may; "
        "a sign-in that does not hold gets nothing, and is recorded.",
        shows=("people.signed_in", "people.refused"),
        tells=("people.signed_in_at_a_provider", "people.signed_out", "passkeys.added", "passkeys.removed", "approvals.by_passkey"),
        settings=("console.roles", "sign_in"),
    ),
    Rule(
        key="irreversible",
        evidence="E5",
        enforces="A call that cannot be undone is put before a person, where policy or the task type says so.",
        shows=("calls.irreversible_asked",),
        tells=("calls.irreversible", "because.no_approver"),
        settings=("tools that cannot be undone", "approvers"),
    ),
    Rule(
        key="identity",
        evidence="E3",
        enforces="An agent proves itself before it gets a token: by SVID, OIDC token or key. Tokens are for one task and live for minutes.",
        shows=("tokens.issued",),
        tells=("svids.issued", "tokens.bound", "tokens.unbound", "tasks.for_a_proved_person", "tasks.for_a_named_person"),
        drills=(I.HIJACKED_KEY, I.SHARED_DATABASE),
        settings=("agents", "trust.token_ttl", "trust.svid_ttl", "trust.issuers", "spiffe.socket"),
    ),
    Rule(
        key="refused-proofs",
        evidence="E3",
        enforces="A proof that does not hold, and a token that is foreign, dead or another's, gets nothing, and is recorded.",
        shows=("proofs.refused",),
        drills=(I.HIJACKED_KEY, I.LEAKED_LOGS, I.SHARED_DATABASE, I.CONFUSED_DEPUTY),
        settings=("tokens.bound", "trust.token_ttl"),
    ),
    Rule(
        key="bound-tokens",
        evidence="E3",
        enforces="A token is bound to a key of its holder, so that a copy opens nothing.",
        shows=("tokens.bound",),
        tells=("tokens.unbound",),
        drills=(I.HIJACKED_KEY, I.CONFUSED_DEPUTY),
        settings=("tokens.bound",),
    ),
    Rule(
        key="no-passing-on",
        evidence="E3",
        enforces="A task's token never goes on to a server: what a server is sent with a call opens no door.",
        shows=(),
        drills=(I.CONFUSED_DEPUTY,),
        settings=("servers",),
    ),
    Rule(
        key="leases",
        evidence="E4",
        enforces="Credentials are made on the target for one task, injected where the agent does not see them, and revoked at its end.",
        shows=("leases.revoked",),
        tells=("leases.intended", "leases.issued", "leases.swept", "leases.stuck", "leases.standing_now"),
        against=("leases.stuck_now",),
        settings=("targets", "task types with leases"),
    ),
    Rule(
        key="no-standing-secrets",
        evidence="E4",
        enforces="No tool server is given a secret that outlives the task.",
        shows=("leases.revoked",),
        against=("leases.of_standing_secrets",),
        against_settings=("targets that stand", "servers with secrets of the environment"),
        drills=(I.HIJACKED_KEY, I.LEAKED_LOGS),
    ),
    Rule(
        key="no-secret-in-logs",
        evidence="E13",
        enforces="Ledger and store hold digests and sealed values, no argument, result or secret in clear; nor does the log.",
        shows=(),
        drills=(I.LEAKED_LOGS, I.SHARED_DATABASE),
        settings=("ledger.keep_values",),
    ),
    Rule(
        key="leak-guard",
        evidence="E13",
        enforces="A leased secret that shows up in a call or a result is stopped; its lease is revoked and the task suspended.",
        shows=("secrets.stopped", "because.leased_secret"),
        settings=("targets",),
    ),
    Rule(
        key="rotation",
        evidence="E4",
        enforces="Keys that sign and secrets that manage targets are replaced, and the replacement is recorded.",
        shows=("keys.rotated", "targets.secrets_rotated", "targets.secrets_set_again", "authorities.replaced"),
        tells=("targets.secrets_set", "authorities.made"),
        settings=("tokens.rotate_days",),
    ),
    Rule(
        key="end",
        evidence="E10",
        enforces="A task ends by itself at its deadline at the latest; then no call of it is allowed, no token opens, no credential stays.",
        shows=("tasks.completed", "tasks.revoked", "tasks.expired"),
        tells=("tasks.opened", "because.task_expired", "because.task_not_active"),
        against=("calls.allowed_outside_life",),
        drills=(I.HIJACKED_KEY,),
        settings=("deadlines",),
    ),
    Rule(
        key="stop",
        evidence="E10",
        enforces="Persons and signals stop tasks and agents at once, on every node, with all that was delegated by them.",
        shows=("agents.stopped", "tasks.revoked", "tasks.suspended"),
        tells=("because.agent_stopped", "because.task_not_active", "agents.restored", "tokens.revoked"),
        against=("calls.allowed_while_stopped",),
        drills=(I.SHARED_DATABASE,),
        settings=("agents",),
    ),
    Rule(
        key="drift",
        evidence="E7",
        enforces="An agent whose model, prompt, tools or data change during a task is refused until a person has accepted the change.",
        shows=("manifests.held", "because.manifest_changed"),
        tells=("manifests.accepted", "manifests.recorded_only", "tasks.with_manifest", "tasks.without_manifest"),
        drills=(I.PROMPT_CHANGE,),
        settings=("manifest parts demanded", "drift that is only recorded"),
    ),
    Rule(
        key="pinned-tools",
        evidence="E7",
        enforces="A tool is what a person accepted: one that changes its description or schema is not called until it is pinned again.",
        shows=("because.tool_changed",),
        tells=("manifests.held", "because.tool_unknown"),
        drills=(I.TOOL_POISONING,),
        settings=("servers pinned", "drift that is only recorded"),
    ),
    Rule(
        key="delegation",
        evidence="E8",
        enforces="A child task never exceeds any task above it; each of them decides at every call, and budgets are lent, not copied.",
        shows=("delegations.made", "delegations.refused", "because.ancestor_not_active"),
        tells=("calls.of_children", "delegations.returned"),
        settings=("task types that may be delegated",),
    ),
    Rule(
        key="delegation-refused",
        evidence="E8",
        enforces="What goes beyond the parent, or belongs to an ended or stopped one, is refused.",
        shows=("delegations.refused", "because.ancestor_not_active", "because.agent_stopped"),
        settings=("task types that may be delegated",),
    ),
    Rule(
        key="ledger",
        evidence="E9",
        enforces="Everything is recorded before it takes effect, in a log under signed checkpoints that was verified for this report.",
        shows=("ledger.entries",),
        tells=("values.forgotten",),
        against=("ledger.entries_that_do_not_fold",),
        settings=("ledger.witnesses", "storage", "ledger.keep_values"),
    ),
    Rule(
        key="limits",
        evidence="E11",
        enforces="Budgets, rates, sums and numbers of uses end what a task may do, also under concurrency.",
        shows=(
            "because.budget_exhausted",
            "because.sum_exceeded",
            "because.rate_exceeded",
            "because.uses_exhausted",
            "because.too_many_questions",
        ),
        settings=("budgets", "limits.records_per_task", "limits.calls_under_way"),
    ),
    Rule(
        key="behaviour",
        evidence="E1",
        enforces="A call that is unlike what completed tasks of its type did is marked, and policy may ask a person about it.",
        shows=("calls.unlike_the_past",),
        settings=("task types that are watched",),
    ),
    Rule(
        key="change-control",
        evidence="E12",
        enforces="Each set of policies and each catalog that decides is recorded with its digests, and its text is kept.",
        shows=("policies.activated",),
        tells=("manifests.accepted", "labels.lowered"),
        settings=("policies", "policies.bundle"),
    ),
    Rule(
        key="inventory",
        evidence="E12",
        enforces="Agents, tools, servers, targets and task types are declared; what is not declared gets nothing.",
        shows=("tasks.opened", "because.tool_unknown"),
        tells=("proofs.refused",),
        settings=("agents", "servers", "tools", "targets", "task types"),
    ),
    Rule(
        key="signals",
        evidence="E14",
        enforces="Security events of configured transmitters (Shared Signals) suspend or end what they concern; ends are told on.",
        shows=("signals.followed", "signals.accepted"),
        tells=("signals.refused",),
        settings=("signals.transmitters", "signals.receivers"),
    ),
    Rule(
        key="drills",
        evidence="E10",
        enforces="Known incidents are re-enacted against these rules, and the outcome is recorded.",
        shows=(),
        tells=tuple(f"drill.{drill}.{outcome}" for drill in Incident for outcome in ("held", "not_held", "not_tried")),
        drills=tuple(Incident),
        whole_drills=True,
    ),
    Rule(
        key="answers",
        evidence="E1",
        enforces="Applications that ask (AuthZEN) are answered by their own policies, about what they may; each answer is recorded.",
        shows=("answers.decided",),
        tells=("answers.denied",),
        settings=("access.applications",),
    ),
)
BY_KEY: dict[str, Rule] = {rule.key: rule for rule in RULES}
