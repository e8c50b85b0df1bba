"""CSA MAESTRO: threats by layer, numbered from the bottom, and across layers. Data; ``logic/frameworks.py`` has the rules.

The framework numbers its layers, not its threats: the numbers within a layer are ours, in the order of the text.
"""

from __future__ import annotations

from remit.logic.framework_words import Item, Items

_MODEL = "The model: its weights, its training and what happens in it. remit sees calls, not models."
_ENGINE = "remit decides by a deterministic policy engine; there is no model in it that this threat could be about."
_HOST = "Images, orchestrators and infrastructure code."

_LAYERS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "L7": (
        ("Compromised Agents", "drift stop end", "A compromise that changes nothing of what is told of the agent."),
        ("Marketplace Manipulation", "", "Markets and ratings of agents."),
        ("Integration Risks", "", "Interfaces that pass no door of remit."),
        ("Agent Identity Attack", "identity refused-proofs bound-tokens", "Identities of agents elsewhere."),
        ("Agent Tool Misuse", "least-agency policy limits exfiltration", "Misuse within the grant."),
        ("Agent Goal Manipulation", "origins labels", "The manipulation itself, inside the model."),
        ("Repudiation", "ledger decided", "What an agent does beside remit."),
        ("Compromised Agent Registry", "inventory change-control", "Registries other than remit's own configuration."),
        ("Malicious Agent Discovery", "", "How agents find each other; what is not declared gets nothing here."),
        ("Agent Pricing Model Manipulation", "", "Prices."),
        ("Inaccurate Agent Capability Description", "pinned-tools drift", "Whether a description is true; only its change is seen."),
        ("Agent Impersonation", "identity refused-proofs", "Impersonation towards people and systems that remit does not serve."),
        ("Horizontal/Vertical Solution Vulnerabilities", "", "The weaknesses of a trade's own solutions."),
    ),
    "L6": (
        ("Security Agent Data Poisoning", "", _ENGINE),
        ("Evasion of Security AI Agents", "", _ENGINE),
        ("Compromised Security AI Agents", "", _ENGINE),
        ("Regulatory Non-Compliance by AI Security Agents", "", _ENGINE),
        ("Bias in Security AI Agents", "", _ENGINE),
        ("Lack of Explainability in Security AI Agents", "decided ledger", f"{_ENGINE} Reasons and policies stand in every decision."),
        ("Model Extraction of AI Security Agents", "", _ENGINE),
    ),
    "L5": (
        ("Manipulation of Evaluation Metrics", "", "Metrics of models."),
        ("Compromised Observability Tools", "ledger", "Tools beside remit; a changed ledger is found by whoever verifies it."),
        ("Denial of Service on Evaluation Infrastructure", "limits", "Infrastructure beside remit."),
        ("Evasion of Detection", "behaviour", "What is like the past of its task type."),
        ("Data Leakage through Observability", "no-secret-in-logs", "Logs of agents and servers themselves."),
        ("Poisoning Observability Data", "ledger", "What an agent tells of itself can be a lie; decisions are remit's own."),
    ),
    "L4": (
        ("Compromised Container Images", "", _HOST),
        ("Orchestration Attacks", "", _HOST),
        ("Infrastructure-as-Code (IaC) Manipulation", "", _HOST),
        ("Denial of Service (DoS) Attacks", "limits fail-safe", "Floods that do not reach remit."),
        ("Resource Hijacking", "limits", "Use of machines; remit counts calls."),
        ("Lateral Movement", "leases identity refused-proofs", "Movement that needs no credential of remit's."),
    ),
    "L3": (
        ("Compromised Framework Components", "drift", "Code of the framework, unless it is a part of the manifest."),
        ("Backdoor Attacks", "", "Code of the framework."),
        ("Input Validation Attacks", "least-agency", "Inputs that pass no door of remit."),
        ("Supply Chain Attacks", "pinned-tools drift inventory", "Integrity of packages."),
        ("Denial of Service on Framework APIs", "limits", "Interfaces of the framework itself."),
        (
            "Framework Evasion",
            "leases no-standing-secrets",
            "Calls around the doors: seen only where the target refuses what was not leased.",
        ),
    ),
    "L2": (
        ("Data Poisoning", "labels origins", "Whether data is true."),
        ("Data Exfiltration", "exfiltration labels policy", "Ways out beside remit, and words of the agent itself."),
        ("Denial of Service on Data Infrastructure", "limits", "Load that others make."),
        ("Data Tampering", "decided policy irreversible", "Writes that the grant covers and policy permits."),
        ("Compromised RAG Pipelines", "labels origins", "What a pipeline retrieves; the catalog says whether it is trusted."),
    ),
    "L1": (
        ("Adversarial Examples", "", _MODEL),
        ("Model Stealing", "", _MODEL),
        ("Backdoor Attacks", "", _MODEL),
        ("Membership Inference Attacks", "", _MODEL),
        ("Data Poisoning (Training Phase)", "", _MODEL),
        ("Reprogramming Attacks", "", _MODEL),
        ("Denial of Service (DoS) Attacks", "", _MODEL),
    ),
    "X": (
        ("Supply Chain Attacks", "pinned-tools drift inventory", "Integrity of what is not declared to remit."),
        ("Lateral Movement", "leases identity delegation-refused", "Movement that needs no credential of remit's."),
        ("Privilege Escalation", "least-agency delegation-refused policy", "Privileges that agents have outside of remit."),
        ("Data Leakage", "exfiltration leak-guard no-secret-in-logs", "Ways out beside remit."),
        ("Goal Misalignment Cascades", "delegation limits stop", "Goals."),
    ),
}

MAESTRO = Items(
    title="CSA MAESTRO: Agentic AI threat modelling framework (2025)",
    source="Cloud Security Alliance, published 2025-02-06; layers from the bottom (L1) to the top (L7), X: across layers. "
    "Numbers within a layer and the mapping to controls are remit's.",
    items=tuple(
        Item(f"{layer}.{number}", title, controls, cannot)
        for layer, threats in _LAYERS.items()
        for number, (title, controls, cannot) in enumerate(threats, 1)
    ),
)
