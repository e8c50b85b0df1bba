"""How a command proves which agent it works for: whoever is at the terminal names it, or a token of a trusted issuer does.

Rules: a token is read from a file or from the environment, never from the command line, which other accounts see. A token that is given
counts alone: a name beside it can only disagree.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import click

from remit.cli.common import operator
from remit.errors import Mistake, Place, Refusal, Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Callable

    from remit.model.identity import Workload
    from remit.node import Node

P = ParamSpec("P")
R = TypeVar("R")
VARIABLE = "REMIT_IDENTITY_TOKEN"
_TOKEN_BYTES_MAX = 65_536


def token_option(command: Callable[P, R]) -> Callable[P, R]:
    """``--token-file``: a proof of identity in place of a name."""
    words = f"A file with a token that proves the agent (OIDC, JWT-SVID; - is standard input); or {VARIABLE} holds the token."
    return click.option("--token-file", type=click.Path(dir_okay=False, allow_dash=True), help=words)(command)


def presented(token_file: str | None) -> str:
    """The token that was given; "" where none was. Raises Mistake."""
    if token_file is None:
        return os.environ.get(VARIABLE, "").strip()
    try:
        with click.open_file(token_file, "rb") as file:
            data: bytes = file.read(_TOKEN_BYTES_MAX + 1)
    except OSError as error:
        raise Mistake(f"the token cannot be read: {error.strerror}", code="token_file", place=Place(file=token_file)) from None
    token = data.decode("utf-8", "replace").strip()
    if not token or len(data) > _TOKEN_BYTES_MAX:
        raise Mistake("there is no token in it", code="token_file", place=Place(file=token_file))
    return token


async def proved(node: Node, token: str, agent: str, how: str) -> tuple[str, Workload]:
    """Name and identity of the agent: as the token proves, or as the person here says (``how``, for the ledger).

    Raises Unauthenticated, Refusal, NotFound, Outage.
    """
    if not token:
        svid = await node.identities.issue_svid(agent, attested=how.format(operator()))
        return await node.identities.verify_svid(svid)
    try:
        name, workload = await node.identities.verify_svid(token, once=True)
    except Unauthenticated:
        raise Unauthenticated("the proof of identity does not hold", hint="`remit ledger tail` says why") from None
    if agent not in {"", name, workload.agent.text}:
        raise Refusal(f"the proof of identity is of agent {name}, not of {agent[:80]!r}", code="wrong_agent")
    return name, workload
