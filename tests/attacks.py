"""The published lists of attacks and demands, item by item, and the tests that pin each: RFC 8725, RFC 9700, MCP's security page.

`tests/docs/test_attacks.py` checks that every test named here exists, and that an item without one says why it is none of remit's.
Attacks are told in our own words; the documents say more. RFC 8725's items stand in the tables of the tests themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

_RFC8725, _RFC9700, _MCP = "RFC 8725", "RFC 9700", "MCP security best practices"

_TOKENS = "tests/integration/test_token_attacks.py::"
_TRUST = "tests/integration/test_trust_attacks.py::"
_FRONT = "tests/integration/test_front_channel.py::"
_PEOPLE = "tests/property/test_front_channel.py::"
_LISTS = "tests/integration/test_published_attacks.py::"
_SERVICE = "tests/integration/test_token_service.py::"
_BROWSER = "tests/integration/test_front_channel_browser.py::test_a_person_consents_in_a_browser_and_another_page_does_not"
_CONSOLE = "tests/integration/test_console_sign_in.py::"
_GATEWAY = "tests/e2e/test_bad_input_gateway.py::"
_BOUND = (
    "tests/integration/test_dpop.py::test_a_bound_token_opens_only_with_its_key",
    "tests/integration/test_dpop.py::test_a_proof_is_for_one_request_once",
    "tests/e2e/test_certificate_bound.py::test_a_token_opens_only_over_connections_that_show_its_certificate",
)
_ONE_SERVER = _SERVICE + "test_a_token_for_one_server_opens_that_one_only"
_ALIKE = _TOKENS + "test_assertions_that_prove_nothing_are_refused_alike"
_FOREIGN = _TRUST + "test_a_token_that_is_wrong_in_one_thing_is_refused"
_SAID = _FRONT + "test_wrong_requests_go_back_to_the_client_or_nowhere"
_CODE = _FRONT + "test_a_code_is_for_its_client_its_address_and_its_verifier"
_TWICE = _FRONT + "test_what_is_used_twice_ends_the_task"
_OTHER = _FRONT + "test_one_browsers_steps_are_no_other_browsers"
_WHOSE = _FRONT + "test_an_answer_that_does_not_say_whose_it_is_counts_for_nothing"
_SEES = _FRONT + "test_a_person_signs_in_sees_the_grant_and_consents"
_REGISTERS = _FRONT + "test_a_client_that_registers_itself"
_ON_THE_WAY = _LISTS + "test_a_browser_goes_on_by_303_and_no_page_or_script_elsewhere_learns_of_it"
_PROXY = _LISTS + "test_what_a_proxy_s_headers_say_sways_nothing"
_SPECIAL = _TRUST + "test_special_addresses_are_not_reached_in_whatever_words"
_INSIDE = _TRUST + "test_a_name_that_leads_inside_is_not_connected_to"
_OUTWARD = "tests/unit/test_outward.py::"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """``tests``: as ``file::name``; or ``why_not``: for what reason there is nothing to attack."""

    document: str
    section: str
    says: str
    tests: tuple[str, ...] = ()
    why_not: str = ""


def _jwt(section: str, says: str, *tests: str, why_not: str = "") -> Attack:
    return Attack(document=_RFC8725, section=section, says=says, tests=tests, why_not=why_not)


def _oauth(section: str, says: str, *tests: str, why_not: str = "") -> Attack:
    return Attack(document=_RFC9700, section=section, says=says, tests=tests, why_not=why_not)


def _mcp(section: str, says: str, *tests: str, why_not: str = "") -> Attack:
    return Attack(document=_MCP, section=section, says=says, tests=tests, why_not=why_not)


_JWT = (
    _jwt("2.1", "no signature, or a public key taken for a secret", _ALIKE, _FOREIGN),
    _jwt("2.2", "a secret that can be guessed", why_not="No token of remit, and none it takes, is signed with a shared secret."),
    _jwt("2.3", "a signature by somebody else", _ALIKE, _FOREIGN),
    _jwt("2.7", "a token that is encrypted, or packed to burst", _ALIKE),
    _jwt("2.8, 3.11, 3.12", "one kind of token taken for another", _ALIKE, "tests/unit/test_claims.py::test_a_task_token_is_no_svid"),
    _jwt("3.8", "an issuer or a subject that the key does not speak for", _ALIKE, _FOREIGN),
    _jwt("3.9", "a token for another place", _ALIKE, _ONE_SERVER),
    _jwt(
        "3.10",
        "a header that names where keys are, or whose key id leads elsewhere",
        _ALIKE,
        "tests/unit/test_claims.py::test_headers_that_point_elsewhere_are_refused",
        "tests/integration/test_key_rotation.py::test_a_key_id_leads_to_no_other_key",
    ),
)

_PRACTICES = (
    _oauth(
        "2.1",
        "addresses to return to match letter by letter, but for the port on the loopback",
        _SAID,
        _PEOPLE + "test_nobody_is_sent_elsewhere",
        _PEOPLE + "test_the_port_of_a_loopback_address_is_the_clients",
    ),
    _oauth("2.1", "no address in a request sends a browser anywhere", _SAID, _CONSOLE + "test_bodies_and_addresses_that_are_none"),
    _oauth(
        "2.1", "as a client: an answer counts in the browser that asked for it", _OTHER, _CONSOLE + "test_a_person_signs_in_at_the_provider"
    ),
    _oauth("2.1", "as a client: an answer says which provider it is of", _WHOSE, _CONSOLE + "test_a_person_signs_in_at_the_provider"),
    _oauth(
        "2.1.1",
        "a code challenge is demanded, as a digest, and its verifier with the code",
        _SAID,
        _CODE,
        _PEOPLE + "test_a_verifier_fits_its_own_challenge_only",
    ),
    _oauth(
        "2.1.1",
        "a client can find out that challenges are supported",
        _LISTS + "test_the_metadata_says_how_it_is_protected_and_lists_no_scopes",
    ),
    _oauth("2.1.2", "no token in the answer to a browser", _SAID),
    _oauth(
        "2.2.1",
        "tokens can be bound to a key, and must be where that is configured",
        *_BOUND,
        _SERVICE + "test_tokens_must_be_bound_where_the_configuration_says_so",
    ),
    _oauth("2.2.2", "a public client's refresh token changes at each use, and its second use ends everything", _TWICE),
    _oauth("2.3", "a token is for one server", _ONE_SERVER),
    _oauth("2.3", "a token may do what its task may", "tests/e2e/test_run_one_task.py::test_an_honest_and_a_dishonest_call"),
    _oauth("2.4", "nobody's password is taken", _TOKENS + "test_forms_that_are_none"),
    _oauth(
        "2.5",
        "clients that can keep a key prove themselves with it, never by a secret",
        _ALIKE,
        _TOKENS + "test_a_client_is_who_it_proves_to_be",
        _TOKENS + "test_forms_that_are_none",
    ),
    _oauth(
        "2.6",
        "metadata is published, and leads from the resource to its token service",
        _SERVICE + "test_metadata_leads_from_the_gateway_to_the_token_service",
    ),
    _oauth(
        "2.6",
        "no answer goes over plain HTTP but to the same machine",
        _REGISTERS,
        _PEOPLE + "test_what_may_be_registered_leads_to_one_place",
    ),
    _oauth("2.6", "no page of another origin reads the authorization endpoint (CORS)", _ON_THE_WAY),
)

_ATTACKS = (
    _oauth("4.1", "an address that only looks like the client's", _SAID, _PEOPLE + "test_nobody_is_sent_elsewhere"),
    _oauth("4.2", "codes and state leak by the Referer header", _ON_THE_WAY),
    _oauth("4.3", "a code in a browser's history is used again", _TWICE),
    _oauth("4.3.2", "a token in an address", _LISTS + "test_a_token_in_an_address_opens_nothing"),
    _oauth("4.4", "mix-up: another provider's answer is taken for ours, or ours for another's", _WHOSE, _SEES),
    _oauth("4.5", "a stolen code is put into another client's or person's flow", _CODE, _OTHER),
    _oauth(
        "4.5",
        "a code is redeemed for an address other than that it was asked for; where the address is left out, as OAuth 2.1 has it, the "
        "verifier, which is always demanded, stands in for it",
        _CODE,
        _LISTS + "test_the_address_may_be_left_out_of_a_token_request_and_the_verifier_not",
    ),
    _oauth("4.6", "a stolen token is put into an answer to a client", _SAID),
    _oauth("4.7", "an attacker's answer is put into a person's browser", _OTHER, _BROWSER),
    _oauth("4.8", "the challenge is taken out of the request, so that any verifier fits", _SAID, _CODE),
    _oauth(
        "4.9", "a server that got a token uses it elsewhere", _ONE_SERVER, _LISTS + "test_the_token_of_a_task_is_not_passed_on_to_a_server"
    ),
    _oauth(
        "4.9.3",
        "tokens are kept nowhere in clear",
        _ALIKE,
        "tests/property/test_decision.py::test_no_value_of_an_argument_or_a_result_is_kept_or_logged",
    ),
    _oauth(
        "4.10",
        "a stolen token is used by whoever has it",
        *_BOUND,
        _SERVICE + "test_what_is_revoked_opens_nothing_at_any_door_while_its_task_lives",
    ),
    _oauth("4.11.1", "a client that redirects anywhere", _CONSOLE + "test_bodies_and_addresses_that_are_none"),
    _oauth("4.11.2", "a stranger registers a page and has browsers sent there by a wrong request", _REGISTERS, _SAID),
    _oauth("4.12", "a redirect that carries a form's content on to the client", _ON_THE_WAY),
    _oauth("4.13", "headers that only a proxy should set come from outside", _PROXY),
    _oauth(
        "4.14",
        "a refresh token gives more than was consented to, or serves another client",
        _LISTS + "test_a_refresh_token_is_its_client_s_and_gives_no_more",
    ),
    _oauth("4.14", "a refresh token outlives what it was given for", _SEES, _TWICE),
    _oauth("4.15", "a client calls itself as a person is called", _TOKENS + "test_a_client_is_who_it_proves_to_be", _REGISTERS),
    _oauth("4.16", "the consent page in another page's frame", _BROWSER, _ON_THE_WAY),
    _oauth(
        "4.17",
        "an answer by a message between windows",
        why_not="Answers go in the query of a redirect only; no page of the front channel has a script.",
    ),
)

_MCP_ITEMS = (
    _mcp(
        "Confused deputy",
        "each client needs a person's consent of its own, whatever the provider remembers of that person",
        _LISTS + "test_a_consent_to_one_client_is_none_to_the_next",
    ),
    _mcp(
        "Confused deputy",
        "the page names the client, what is wanted and where the answer goes, and cannot be framed or forged",
        _SEES,
        _BROWSER,
        _ON_THE_WAY,
    ),
    _mcp("Confused deputy", "the address is the registered one", _SAID, _REGISTERS),
    _mcp(
        "Confused deputy",
        "what a cookie carries is sealed, of one browser, one client and one use",
        _OTHER,
        _ON_THE_WAY,
        _CONSOLE + "test_over_https_the_cookie_is_bound_to_the_host",
    ),
    _mcp("Confused deputy", "state is checked, single and short-lived", _OTHER),
    _mcp(
        "Confused deputy",
        "an agent uses a token that was passed to it",
        _TOKENS + "test_a_client_is_who_it_proves_to_be",
        "tests/e2e/test_delegation.py::test_confused_deputies_are_refused_each_with_its_code",
    ),
    _mcp("Token passthrough", "no token counts that is not of this gateway", _GATEWAY + "test_tokens_that_open_nothing", _ONE_SERVER),
    _mcp(
        "Token passthrough",
        "no token that a client shows goes on to a server",
        _LISTS + "test_the_token_of_a_task_is_not_passed_on_to_a_server",
        "tests/e2e/test_egress.py::test_by_a_task_token_and_by_stock_clients",
    ),
    _mcp(
        "SSRF",
        "addresses inside are not reached, however they are written",
        _SPECIAL,
        _OUTWARD + "test_no_spelling_leads_into_a_private_network",
    ),
    _mcp("SSRF", "nor by a name that leads inside when it is connected to", _INSIDE),
    _mcp(
        "SSRF",
        "redirects are not followed",
        _OUTWARD + "test_an_answer_is_bounded_not_followed_and_not_unpacked",
        "tests/e2e/test_egress.py::test_redirects_are_not_followed",
    ),
    _mcp("SSRF", "a client's id is no address to fetch, unless it is declared", _SAID, _FRONT + "test_a_client_is_known_by_its_document"),
    _mcp(
        "Session hijacking",
        "a session proves nothing; another's is none, and cannot be guessed",
        _GATEWAY + "test_sessions_belong_to_their_task",
    ),
    _mcp(
        "Session hijacking",
        "what somebody else sends does not reach a session's stream",
        "tests/integration/test_upstream_http.py::test_an_answer_comes_only_on_its_own_stream",
    ),
    _mcp(
        "Local server compromise",
        "a page in a browser reaches a server on this machine by a name that was rebound",
        _GATEWAY + "test_a_name_that_was_rebound",
    ),
    _mcp(
        "Local server compromise",
        "a server gets no more of this machine's secrets than was leased for it",
        "tests/e2e/test_run_one_task.py::test_the_process_gets_no_secret_of_a_server_and_its_access_dies_with_the_task",
    ),
    _mcp(
        "Local server compromise",
        "a server that changes is not used until a person has accepted the change",
        "tests/integration/test_upstream_stdio.py::test_a_changed_tool_is_not_called_until_it_is_pinned_again",
    ),
    _mcp(
        "Local server compromise",
        "a command is shown whole before it runs when it is taken over by one click",
        why_not="No such button: servers are started from the configuration that the operator wrote, from nothing else.",
    ),
    _mcp(
        "Scoped receipts",
        "an approval is for exactly one call, once",
        "tests/unit/test_authorize.py::test_an_approval_opens_exactly_its_call",
        "tests/e2e/test_approvals.py::test_a_changed_call_is_another_question",
    ),
    _mcp(
        "Scope minimization",
        "no catalogue of scopes is published, and none that means everything is taken",
        _LISTS + "test_the_metadata_says_how_it_is_protected_and_lists_no_scopes",
        _TOKENS + "test_authorization_details_that_do_not_fit_are_told_as_such",
    ),
    _mcp(
        "Scope minimization",
        "what a token claims is not enough: each call is decided",
        "tests/property/test_decision.py::test_the_decision_is_total_and_allows_just_what_both_keys_say",
    ),
)

ATTACKS = (*_JWT, *_PRACTICES, *_ATTACKS, *_MCP_ITEMS)
