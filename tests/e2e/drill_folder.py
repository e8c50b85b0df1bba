"""A working folder on which every drill holds, and ways to weaken it."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key

from remit.services.pins import Pins

TOML = """
[tokens]
bound = "dpop"
[agents.clerk]
tasks = ["pay"]
keys = [CLERK]
[agents.other]
tasks = ["pay"]
keys = [OTHER]
[servers.mail]
command = "PYTHON"
args = ["TOUCH", "MAIL"]
[servers.bank]
command = "PYTHON"
args = ["TOUCH", "BANK"]
[tools."mail/read"]
effect = "read"
data_class = "confidential"
trust = "untrusted"
sends = "nowhere"
[tools."bank/pay"]
effect = "irreversible"
data_class = "internal"
trust = "trusted"
sends = "external"
"""
CEDAR = """
@id("reads") permit (principal, action in Action::"read", resource);
@id("approved") permit (principal, action == Action::"bank/pay", resource) when { context has approval };
"""
TASK = """
objective = "Pay {bill}"
data_ceiling = "confidential"
deadline = "30m"
budget = { calls = 100 }
[manifest]
required = ["system_prompt"]
[inputs.bill]
type = "string"
[[grant]]
tool = "mail/read"
[[grant]]
tool = "bank/pay"
"""
READ = {"name": "read", "description": "Read mail.", "inputSchema": {"type": "object", "properties": {"folder": {"type": "string"}}}}
PAY = {
    "name": "pay",
    "description": "Pay.",
    "inputSchema": {
        "type": "object",
        "properties": {"to": {"type": "string"}, "amount": {"type": "integer", "minimum": 1}, "note": {"type": "string"}},
        "required": ["to", "amount"],
    },
}


def write_drill_folder(folder: Path, *, read: str = "Read mail.") -> Path:
    """Write it. ``read``: description of the tool that reads."""
    (folder / "tasks").mkdir(parents=True)
    (folder / "policies").mkdir()
    touch = folder / "touch.py"
    touch.write_text("import pathlib, sys\npathlib.Path(sys.argv[1]).write_text('started')\n")
    text = TOML.replace("PYTHON", sys.executable).replace("TOUCH", str(touch))
    text = text.replace("MAIL", str(folder / "mail.started")).replace("BANK", str(folder / "bank.started"))
    text = text.replace("CLERK", json_key()).replace("OTHER", json_key())
    (folder / "remit.toml").write_text(text)
    (folder / "policies" / "main.cedar").write_text(CEDAR)
    (folder / "tasks" / "pay.toml").write_text(TASK)
    pins = Pins(folder)
    pins.pin("mail", [{**READ, "description": read}])
    pins.pin("bank", [PAY])
    return folder


def change(folder: Path, name: str, old: str, new: str) -> None:
    """Replace something in a file of the folder; it must be there."""
    path = folder / name
    text = path.read_text()
    assert old in text, (name, old)
    path.write_text(text.replace(old, new))


def json_key() -> str:
    """A public key as an inline table of TOML."""
    return "{ " + ", ".join(f"{name} = {json.dumps(value)}" for name, value in _jwk(generate_private_key(SECP256R1())).items()) + " }"


def _jwk(key: EllipticCurvePrivateKey) -> dict[str, str]:
    numbers = key.public_key().public_numbers()
    x, y = (base64.urlsafe_b64encode(part.to_bytes(32, "big")).decode().rstrip("=") for part in (numbers.x, numbers.y))
    return {"kty": "EC", "crv": "P-256", "x": x, "y": y}
