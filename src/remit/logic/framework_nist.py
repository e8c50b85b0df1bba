"""NIST AI RMF 1.0: the subcategories that a runtime can feed. Data; ``logic/frameworks.py`` has the rules.

Titles are short ones of ours: the framework's own sentences are long. Subcategories that nothing of a runtime speaks to are left out.
"""

from __future__ import annotations

from remit.logic.framework_words import Item, Items

_PEOPLE = "What people decided, wrote and understood; a runtime shows what it was told to enforce."

NIST_AI_RMF = Items(
    title="NIST AI Risk Management Framework 1.0 (AI 100-1)",
    source="NIST AI 100-1, January 2023: the subcategories that a runtime can feed, with short titles of ours. Ids marked unverified were "
    "not compared with the text. The mapping to controls is remit's.",
    items=(
        Item("GOVERN 1.1", "Legal and regulatory requirements are understood", "", _PEOPLE, unverified=True),
        Item("GOVERN 1.2", "Trustworthiness in policies and practice", "change-control", _PEOPLE, unverified=True),
        Item(
            "GOVERN 1.4", "Risk management is transparent, through policies and controls", "change-control ledger", _PEOPLE, unverified=True
        ),
        Item("GOVERN 1.5", "Monitoring and periodic review are planned, with roles", "drills change-control", _PEOPLE, unverified=True),
        Item("GOVERN 1.6", "An inventory of AI systems is kept", "inventory", "Systems that were not declared to remit."),
        Item("GOVERN 1.7", "Decommissioning is safe", "end stop leases", "Data and models of what is decommissioned."),
        Item("GOVERN 2.1", "Roles and lines of communication are documented", "approvals inventory people", _PEOPLE),
        Item("GOVERN 3.2", "Roles for human-AI configurations and oversight", "approvals irreversible people", _PEOPLE),
        Item("GOVERN 4.3", "Testing, identification of incidents, sharing of information", "drills signals leak-guard", _PEOPLE),
        Item(
            "GOVERN 6.1", "Risks of third parties", "pinned-tools inventory", "The third parties themselves, and rights in their material."
        ),
        Item("GOVERN 6.2", "Contingency for failures of third parties", "fail-safe limits", "What to do instead: a denial is no service."),
        Item("MAP 1.1", "Intended purpose and context", "inventory", "Whether the stated objective is the true one."),
        Item("MAP 1.5", "Risk tolerances are set", "limits labels", _PEOPLE),
        Item("MAP 2.1", "Tasks are defined", "inventory least-agency", "How the tasks are done."),
        Item("MAP 2.2", "Limits and human oversight of output are documented", "approvals irreversible", "The output itself."),
        Item("MAP 3.3", "Targeted scope of application", "least-agency", "Whether the scope is right."),
        Item("MAP 3.5", "Human oversight processes are defined", "approvals", _PEOPLE),
        Item("MAP 4.1", "Mapping of third-party components", "inventory pinned-tools", "Components inside a server or an agent."),
        Item("MAP 4.2", "Controls of third-party components", "pinned-tools drift", "Components inside a server or an agent."),
        Item("MEASURE 2.4", "Behaviour is monitored in production", "decided labels limits behaviour", "What a model says and why."),
        Item("MEASURE 2.6", "Safety; it can fail safely", "fail-safe stop", "Safety of what a permitted call does in the world."),
        Item("MEASURE 2.7", "Security and resilience are evaluated", "drills origins leak-guard", "Attacks that no drill re-enacts."),
        Item("MEASURE 2.8", "Transparency and accountability", "ledger decided", "Explanations of a model."),
        Item("MEASURE 2.10", "Privacy", "labels no-secret-in-logs", "Personal data as such; classes of data are the catalog's."),
        Item("MEASURE 3.1", "Existing, unanticipated and emergent risks are tracked", "drift behaviour fail-safe", _PEOPLE),
        Item("MANAGE 1.3", "Responses to high-priority risks are planned", "drills policy", _PEOPLE),
        Item("MANAGE 2.3", "Response to and recovery from unknown risks", "stop signals", "Recovery of what a call has done."),
        Item("MANAGE 2.4", "Mechanisms to supersede, disengage, deactivate", "stop end", "Agents that work without remit."),
        Item("MANAGE 3.1", "Third-party resources are monitored", "pinned-tools drift", "Their insides."),
        Item(
            "MANAGE 4.1",
            "Monitoring after deployment: override, decommissioning, response, change",
            "approvals drift stop change-control",
            _PEOPLE,
        ),
        Item("MANAGE 4.3", "Incidents and errors are communicated and tracked", "signals ledger leak-guard", "To whom people talk."),
    ),
)
