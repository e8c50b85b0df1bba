"""What clients read to find their way: RFC 8414 for the token service, RFC 9728 for each server behind the gateway. Pure.

Rules: what is named here is served, as it is named. Addresses are made of our own name, never of a header of the request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from remit.logic.dpop import ALGORITHMS
from remit.logic.token_requests import DETAIL_TYPE
from remit.model.token import Bound

if TYPE_CHECKING:
    from collections.abc import Iterable

    from remit.model.token import TokenRules
    from remit.services.public_clients import PublicClients

Json = dict[str, Any]
METADATA = "/.well-known/oauth-authorization-server"
OPENID = "/.well-known/openid-configuration"
RESOURCE = "/.well-known/oauth-protected-resource"
TOKEN, INTROSPECT, REVOKE, JWKS = "/oauth/token", "/oauth/introspect", "/oauth/revoke", "/oauth/jwks"
AUTHORIZE, REGISTER, PAR = "/oauth/authorize", "/oauth/register", "/oauth/par"
STATUS_LIST = "/oauth/status/{which:int}"
MISSION_STATUS, MISSION_LIFECYCLE = "/oauth/mission/status", "/oauth/mission/lifecycle"
AUTHENTICATION = ["private_key_jwt", "spiffe_jwt"]
_ASYMMETRIC = list(ALGORITHMS)


def server_metadata(issuer: str, grant_types: Iterable[str], rules: TokenRules, front: PublicClients | None = None) -> Json:
    """The token service (RFC 8414 §2). ``front``: clients of people, where they may sign in."""
    document: Json = {
        "issuer": issuer,
        # named although no person can sign in by it: the MCP SDK takes no metadata without it
        "authorization_endpoint": issuer + AUTHORIZE,
        "response_types_supported": [],
        "token_endpoint": issuer + TOKEN,
        "jwks_uri": issuer + JWKS,
        "grant_types_supported": list(grant_types),
        "token_endpoint_auth_methods_supported": AUTHENTICATION,
        "token_endpoint_auth_signing_alg_values_supported": _ASYMMETRIC,
        "introspection_endpoint": issuer + INTROSPECT,
        "introspection_endpoint_auth_methods_supported": AUTHENTICATION,
        "introspection_endpoint_auth_signing_alg_values_supported": _ASYMMETRIC,
        "revocation_endpoint": issuer + REVOKE,
        "revocation_endpoint_auth_methods_supported": AUTHENTICATION,
        "revocation_endpoint_auth_signing_alg_values_supported": _ASYMMETRIC,
        "code_challenge_methods_supported": ["S256"],
        "authorization_details_types_supported": [DETAIL_TYPE],
        "dpop_signing_alg_values_supported": _ASYMMETRIC,
        "tls_client_certificate_bound_access_tokens": True,
    }
    if front is not None:
        document |= {
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "token_endpoint_auth_methods_supported": [*AUTHENTICATION, "none"],
            "authorization_response_iss_parameter_supported": True,
            "client_id_metadata_document_supported": front.documents,
            "pushed_authorization_request_endpoint": issuer + PAR,
            "require_pushed_authorization_requests": front.all_push,
            "request_parameter_supported": False,
            "request_uri_parameter_supported": False,  # but what was pushed here (RFC 9126 §5)
            **({"registration_endpoint": issuer + REGISTER} if front.registration else {}),
        }
    if rules.mission:
        document |= {
            "mission_bound_authorization_supported": True,
            "mission_status_endpoint": issuer + MISSION_STATUS,
            "mission_lifecycle_endpoint": issuer + MISSION_LIFECYCLE,
            "mission_max_stale_seconds": 0,
        }
    return document


def resource_metadata(issuer: str, path: str, name: str, rules: TokenRules) -> Json:
    """One server of the gateway, or ("" ) the gateway itself, as a protected resource (RFC 9728 §2)."""
    return {
        "resource": issuer + path,
        "authorization_servers": [issuer],
        "jwks_uri": issuer + JWKS,
        "bearer_methods_supported": ["header"],
        "resource_name": f"{name} behind remit" if name else "remit",
        "authorization_details_types_supported": [DETAIL_TYPE],
        "dpop_signing_alg_values_supported": _ASYMMETRIC,
        "dpop_bound_access_tokens_required": rules.bound is Bound.DPOP,
        "tls_client_certificate_bound_access_tokens": True,
    }


def inserted(well_known: str, issuer: str) -> str:
    """Where metadata of an issuer with a path stands: between its host and its path (RFC 8414 §3.1)."""
    return well_known + urlsplit(issuer).path.rstrip("/")
