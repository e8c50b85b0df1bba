"""The frameworks as data: their items, the controls that bear on each, and what of each remit does not see. Pure.

Rules
* Ids carry the edition's year where the framework has editions. Titles are the framework's own; where its text is long or
  not free, a short title of ours, and it says so. The mapping to controls is ours, never the framework's.
* Every item says what remit cannot do about it. An item without a control is listed all the same, as not shown.
* ``unverified``: id or wording was not compared with the framework's own text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit.logic.framework_maestro import MAESTRO
from remit.logic.framework_nist import NIST_AI_RMF
from remit.logic.framework_words import Item, Items
from remit.model.report import Framework

if TYPE_CHECKING:
    from collections.abc import Mapping

OWASP_AGENTIC = Items(
    title="OWASP Top 10 for Agentic Applications (2026)",
    source="OWASP GenAI Security Project, edition for 2026, released 2025-12-09. The mapping to controls is remit's.",
    items=(
        Item(
            "ASI01:2026",
            "Agent Goal Hijack",
            "origins least-agency labels approvals",
            "The hijack itself happens inside the model and is not seen; what a hijacked agent does within its grant is allowed.",
        ),
        Item(
            "ASI02:2026",
            "Tool Misuse and Exploitation",
            "decided least-agency policy limits irreversible exfiltration",
            "Misuse with arguments that the grant covers and policy permits.",
        ),
        Item(
            "ASI03:2026",
            "Identity and Privilege Abuse",
            "identity refused-proofs bound-tokens no-passing-on leases delegation-refused",
            "Identities and privileges that agents have outside of remit.",
        ),
        Item(
            "ASI04:2026",
            "Agentic Supply Chain Vulnerabilities",
            "pinned-tools drift inventory",
            "Whether a model, a package or a server's code is what it claims to be; only declarations and digests are compared.",
        ),
        Item(
            "ASI05:2026",
            "Unexpected Code Execution (RCE)",
            "least-agency leak-guard limits",
            "What happens inside a process. remit sandboxes nothing; it decides whether a tool that executes is called, and with what.",
        ),
        Item(
            "ASI06:2026",
            "Memory & Context Poisoning",
            "labels origins",
            "The content of memories, and whether it is true; a memory that the agent keeps beside remit.",
        ),
        Item(
            "ASI07:2026",
            "Insecure Inter-Agent Communication",
            "identity bound-tokens no-passing-on delegation delegation-refused",
            "Messages between agents that pass no door of remit.",
        ),
        Item(
            "ASI08:2026",
            "Cascading Failures",
            "fail-safe limits delegation stop",
            "The quality of what agents hand to each other; failures that stay within everybody's limits.",
        ),
        Item(
            "ASI09:2026",
            "Human-Agent Trust Exploitation",
            "approvals irreversible",
            "Whether the person understood what was shown. Answers within seconds are a sign of rubber stamps: see the time to answer.",
        ),
        Item(
            "ASI10:2026",
            "Rogue Agents",
            "drift stop behaviour signals end",
            "Intent. An agent that keeps to its task and its past is not seen as rogue.",
        ),
    ),
)

OWASP_NHI = Items(
    title="OWASP Non-Human Identities Top 10 (2025)",
    source="OWASP NHI Top 10, edition 2025, read in the project's repository. The mapping to controls is remit's.",
    items=(
        Item(
            "NHI1:2025",
            "Improper Offboarding",
            "end stop leases refused-proofs",
            "Accounts and keys that were made without remit.",
        ),
        Item(
            "NHI2:2025",
            "Secret Leakage",
            "no-secret-in-logs leak-guard no-standing-secrets",
            "Secrets in code, files, images and chats that remit never saw.",
        ),
        Item(
            "NHI3:2025",
            "Vulnerable Third-Party NHI",
            "pinned-tools inventory leases",
            "The third party's own state: its code, its staff, its breaches.",
        ),
        Item(
            "NHI4:2025",
            "Insecure Authentication",
            "identity refused-proofs bound-tokens",
            "How other systems authenticate machines.",
        ),
        Item(
            "NHI5:2025",
            "Overprivileged NHI",
            "least-agency policy leases",
            "Whether a grant is narrower than it need be: `remit policy mine` compares it with what was used.",
        ),
        Item(
            "NHI6:2025",
            "Insecure Cloud Deployment Configurations",
            "identity refused-proofs",
            "The cloud's configuration itself. Conditions on issuer, audience and subject of trusted tokens are configured here.",
        ),
        Item(
            "NHI7:2025",
            "Long-Lived Secrets",
            "no-standing-secrets leases rotation end",
            "Long-lived secrets beside remit; the secrets by which remit manages targets live until they are rotated.",
        ),
        Item(
            "NHI8:2025",
            "Environment Isolation",
            "refused-proofs inventory",
            "Whether environments share what they should not; a trust domain and targets of its own for each is the operator's choice.",
        ),
        Item(
            "NHI9:2025",
            "NHI Reuse",
            "identity inventory",
            "Two instances that work under one identity, unless each gets a task of its own.",
        ),
        Item(
            "NHI10:2025",
            "Human Use of NHI",
            "refused-proofs identity approvals people",
            "A person at an agent's machine, under its account.",
        ),
    ),
)

FRAMEWORKS: Mapping[Framework, Items] = {
    Framework.OWASP_AGENTIC: OWASP_AGENTIC,
    Framework.OWASP_NHI: OWASP_NHI,
    Framework.MAESTRO: MAESTRO,
    Framework.NIST_AI_RMF: NIST_AI_RMF,
}
