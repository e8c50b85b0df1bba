"""Stock OAuth clients, unchanged, against the token service: Authlib's, and the OAuth part of the MCP SDK."""

from __future__ import annotations

import asyncio
import warnings
from typing import TYPE_CHECKING, Any

import httpx2
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from mcp import Client
from mcp.client.auth.extensions.client_credentials import PrivateKeyJWTOAuthProvider, SignedJWTParameters
from mcp.client.streamable_http import streamable_http_client

from tests.integration.token_service import EXCHANGE, TYPE, Service, token_service, wanted

if TYPE_CHECKING:
    from mcp.shared.auth import OAuthClientInformationFull, OAuthToken


def authlib_client(service: Service) -> OAuth2Session:
    method = "private_key_jwt"
    client = OAuth2Session("tester", service.key, token_endpoint_auth_method=method, revocation_endpoint_auth_method=method)
    client.register_client_auth_method(PrivateKeyJWT(service.url, alg="ES256"))
    return client


def test_authlib_gets_a_token_exchanges_it_for_one_server_and_revokes_it(tmp_path):
    async def run() -> None:
        async with token_service(tmp_path) as service:
            client, endpoint = authlib_client(service), f"{service.url}/oauth/token"

            def asked(**form: str) -> dict[str, Any]:
                return client.fetch_token(endpoint, **form)

            first = await asyncio.to_thread(asked, grant_type="client_credentials", authorization_details=wanted(task_type="all"))
            narrow = await asyncio.to_thread(
                asked,
                grant_type=EXCHANGE,
                subject_token=first["access_token"],
                subject_token_type=f"{TYPE}access_token",
                resource=f"{service.url}/mcp/bank",
            )
            assert narrow["issued_token_type"] == f"{TYPE}access_token"
            assert await service.opens(narrow["access_token"])
            told = await asyncio.to_thread(
                client.introspect_token, f"{service.url}/oauth/introspect", token=narrow["access_token"], token_type_hint="access_token"
            )
            assert told.json()["aud"] == f"{service.url}/mcp/bank"
            done = await asyncio.to_thread(client.revoke_token, f"{service.url}/oauth/revoke", token=narrow["access_token"])
            assert done.status_code == 200
            assert not await service.opens(narrow["access_token"])
            assert await service.opens(first["access_token"])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Authlib's own deprecations
        asyncio.run(run())


class Kept:
    """The SDK's token storage, in memory."""

    def __init__(self) -> None:
        self.tokens: OAuthToken | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return None

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        raise NotImplementedError


def test_the_mcp_sdk_finds_the_token_service_and_ends_with_a_token_for_one_task(tmp_path):
    async def run() -> None:
        async with token_service(tmp_path, agent='default_task = "all"') as service:
            server, kept = f"{service.url}/mcp/bank", Kept()
            signing = SignedJWTParameters(
                issuer="tester", subject="tester", signing_key=service.key.as_pem(private=True).decode(), signing_algorithm="ES256"
            )
            provider = PrivateKeyJWTOAuthProvider(
                server_url=server,
                storage=kept,
                client_id="tester",
                assertion_provider=signing.create_assertion_provider(),
                issuer=service.url,
            )
            async with httpx2.AsyncClient(auth=provider) as http, Client(streamable_http_client(server, http_client=http)) as client:
                answer = await client.call_tool("echo", {"text": "hello"})
                assert not answer.is_error
            assert kept.tokens is not None
            _, told = await service.token_of(kept.tokens.access_token)
            assert (told["aud"], told["task"]["type"]) == (server, "all")

    asyncio.run(run())
