"""What remit promises about security, and the tests that try to break each promise.

`SECURITY.md` lists the same promises in the same words; `tests/docs/test_promises.py` checks it, and that every test named here
exists, that every attacker of `SECURITY.md` is held by a promise, and that every law of `tests/property` and `tests/simulation`
serves one. The numbers in brackets are the invariants of the design.
"""

from __future__ import annotations

from dataclasses import dataclass

_LIFE = "tests/property/test_invariants.py"
_SIMULATION = ("tests/simulation/test_simulation.py", "tests/simulation/test_mutants.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """``against``: attackers by the first words of their row in SECURITY.md. ``tests``: a file of tests, or one test of it."""

    says: str
    against: tuple[str, ...]
    tests: tuple[str, ...]


PROMISES = (
    Promise(
        says="Nothing takes effect before its record is durable, and a crash at any point loses no record (1).",
        against=("insider with the database",),
        tests=(
            _LIFE,
            *_SIMULATION,
            "tests/contract/test_store.py",
            "tests/e2e/test_run_one_task.py::test_kill_at_any_point_loses_no_record_and_leaves_no_effect_unrecorded",
        ),
    ),
    Promise(
        says="When a task has ended, no token of it is accepted, no call of it is allowed, and its servers are gone (2).",
        against=("thief of a token", "hijacked agent"),
        tests=(
            _LIFE,
            *_SIMULATION,
            "tests/e2e/test_gateway_life.py::test_what_ends_with_the_task",
            "tests/e2e/test_serve.py::test_an_end_at_the_command_line_holds_at_every_door_at_once",
            "tests/e2e/test_kill_while_waiting.py",
            "tests/integration/test_upstream_stdio.py::test_a_server_that_will_not_die_dies_with_its_task",
            "tests/integration/test_postgres_node.py::test_two_nodes_are_one",
        ),
    ),
    Promise(
        says="Every credential that was minted for a task is gone from its target when the task, or one above it, has ended or is "
        "suspended, with its sessions; while a target is away that is retried until done, through restarts, and shown as stuck (2).",
        against=("hijacked agent", "thief of a token"),
        tests=(
            "tests/property/test_leases.py",
            "tests/simulation/test_leases.py",
            "tests/integration/test_lease_faults.py",
            "tests/integration/test_leases_below.py",
            "tests/contract/test_target_postgresql.py",
            "tests/contract/test_target_redis.py",
            "tests/contract/test_target_mariadb.py",
            "tests/contract/test_target_aws.py",
            "tests/contract/test_target_rabbitmq.py",
            "tests/contract/test_target_ssh.py",
            "tests/contract/test_target_kubernetes.py",
            "tests/contract/test_target_github.py",
            "tests/contract/test_target_x509.py",
            "tests/contract/test_target_nats.py",
            "tests/contract/test_target_oauth.py",
            "tests/e2e/test_leases.py::test_a_killed_node_leaves_nothing_for_long",
            "tests/e2e/test_demo.py",
        ),
    ),
    Promise(
        says="A leased credential does what its task's scope says and no more, and neither the agent nor the ledger nor a log ever "
        "sees it (7).",
        against=("hijacked agent", "hostile or changed tool server"),
        tests=(
            "tests/contract/test_target_postgresql.py",
            "tests/e2e/test_leases.py::test_the_agent_works_with_a_credential_that_it_never_sees",
            "tests/e2e/test_injection.py::test_a_header_for_one_task",
            "tests/e2e/test_injection.py::test_a_static_secret_is_injected_and_flagged",
        ),
    ),
    Promise(
        says="A leased secret does not leave: in whatever an agent sends, a server answers or remit logs it is found however it is "
        "dressed, and stopped; in the same record its task is suspended and its lease has to go (7).",
        against=("hijacked agent", "hostile or changed tool server"),
        tests=("tests/property/test_tripwire.py", "tests/e2e/test_tripwire.py"),
    ),
    Promise(
        says="A request through the egress reaches the declared operation of its API and nothing else, as it was decided on: no path, "
        "query, body, header, name or redirect leads elsewhere, nothing is sent twice, and nothing of the credential comes back (4, 7).",
        against=("hijacked agent", "hostile or changed tool server", "the network"),
        tests=(
            "tests/property/test_egress.py",
            "tests/e2e/test_egress.py",
            "tests/integration/test_egress_http.py",
            "tests/e2e/test_egress_commands.py::test_run_gives_the_agent_an_address_and_no_secret",
        ),
    ),
    Promise(
        says="What is unknown, broken or out of reach is denied, with a reason and without a stack trace (4).",
        against=("hijacked agent", "hostile or changed tool server"),
        tests=(
            "tests/property/test_decision.py",
            "tests/property/test_records.py",
            "tests/unit/test_authorize.py",
            "tests/e2e/test_bad_input_gateway.py",
            "tests/integration/test_upstream_stdio.py",
            "tests/integration/test_upstream_http.py",
        ),
    ),
    Promise(
        says="A call is allowed only by the organisation's policy and the task's grant together; less of either never gives more.",
        against=("hijacked agent",),
        tests=(
            "tests/property/test_decision.py::test_the_decision_is_total_and_allows_just_what_both_keys_say",
            "tests/property/test_decision.py::test_one_more_forbid_never_gives_more",
            "tests/property/test_decision.py::test_a_task_with_less_never_gets_more",
            "tests/e2e/test_run_one_task.py::test_an_honest_and_a_dishonest_call",
        ),
    ),
    Promise(
        says="What a task has read is never forgotten, and having read more never gives more (5).",
        against=("hostile content",),
        tests=(
            _LIFE,
            *_SIMULATION,
            "tests/property/test_decision.py::test_having_read_more_never_gives_more",
            "tests/property/test_decision.py::test_labels_form_a_semilattice",
            "tests/e2e/test_gateway_asides.py",
        ),
    ),
    Promise(
        says=(
            "A value's origin is where the task saw it first, in whichever process: no rewording, encoding, echo, store or forgetting "
            "makes it better, and what was never seen is unknown."
        ),
        against=("hostile content",),
        tests=(
            "tests/property/test_sightings.py",
            "tests/unit/test_values.py",
            "tests/unit/test_origins.py",
            "tests/integration/test_context.py",
            "tests/integration/test_approved_values.py",
        ),
    ),
    Promise(
        says="A budget is never overspent, whoever counts and wherever (5).",
        against=("hijacked agent",),
        tests=(
            _LIFE,
            "tests/simulation/test_simulation.py::test_real_threads_do_not_overspend",
            "tests/integration/test_postgres_node.py::test_a_budget_raced_through_two_nodes_is_never_overspent",
        ),
    ),
    Promise(
        says=(
            "A child task never exceeds any task above it, in its calls and in what its credentials may do on their targets, as each is at "
            "that moment, on whichever node; what ends, suspends or narrows one, or stops an agent of the chain, holds for all below it "
            "at once (3)."
        ),
        against=("another agent in the chain", "hijacked agent"),
        tests=(
            "tests/property/test_delegation.py",
            "tests/property/test_lease_parts.py",
            "tests/integration/test_lease_parts.py",
            "tests/unit/test_delegation.py",
            "tests/integration/test_delegation_nodes.py",
            "tests/e2e/test_delegation.py",
            "tests/integration/test_token_delegation.py",
            "tests/contract/test_store.py::test_a_mark_raised_on_one_node_stops_the_other_s_appends",
        ),
    ),
    Promise(
        says="An approval opens one call, once, or a class that its approvers described, so many times and so long, "
        "and never comes from the one who asked (6).",
        against=("hijacked agent",),
        tests=(
            _LIFE,
            *_SIMULATION,
            "tests/unit/test_authorize.py::test_an_approval_opens_exactly_its_call",
            "tests/property/test_approvals.py",
            "tests/e2e/test_approvals.py",
            "tests/e2e/test_run_one_task.py::test_an_agent_cannot_answer_its_own_question",
        ),
    ),
    Promise(
        says="No value of an argument or a result, and no secret, is in the ledger, in logs or in an answer to somebody else (7).",
        against=("thief of a token", "hostile or changed tool server"),
        tests=(
            "tests/property/test_decision.py::test_no_value_of_an_argument_or_a_result_is_kept_or_logged",
            "tests/e2e/test_run_one_task.py::test_the_process_gets_no_secret_of_a_server_and_its_access_dies_with_the_task",
            "tests/e2e/test_init_and_doctor.py::test_init_takes_over_servers_and_copies_no_secret",
            "tests/e2e/test_scan.py",
            "tests/integration/test_postgres_node.py::test_the_database_s_password_is_shown_nowhere",
            "tests/e2e/test_target_rotation.py::test_a_new_secret_that_only_remit_knows",
            "tests/e2e/test_metrics.py::test_numbers_follow_what_happens_and_hostile_names_add_none",
        ),
    ),
    Promise(
        says="With a key-encryption key, no key of the keys folder lies in it in clear: without that key, or with another, nothing of it "
        "opens, nothing starts and nothing is overwritten; wrapping it, and a crash in between, loses no key (7).",
        against=("insider with the database", "hijacked agent"),
        tests=("tests/integration/test_key_encryption.py", "tests/e2e/test_key_encryption.py"),
    ),
    Promise(
        says="Verification needs only the public key, and names the first entry that was changed, removed, inserted or reordered.",
        against=("insider with the database",),
        tests=("tests/property/test_ledger.py", "tests/property/test_verification.py", "tests/integration/test_verification.py"),
    ),
    Promise(
        says="Every entry of the ledger reaches each sink of events, at least once and in order, whatever fails meanwhile; no task's "
        "input and no secret goes with it.",
        against=("hijacked agent",),
        tests=("tests/property/test_ocsf.py", "tests/integration/test_events.py"),
    ),
    Promise(
        says="A trace holds no argument, no result and no secret, and what an agent says of its own trace decides nothing.",
        against=("hijacked agent",),
        tests=("tests/integration/test_telemetry.py",),
    ),
    Promise(
        says="Whoever follows the log from outside can tell whether it only grew, and with a witness that everybody is shown the same log; "
        "its entries are read by its readers alone.",
        against=("insider with the database",),
        tests=(
            "tests/property/test_transparency.py",
            "tests/integration/test_transparency_log.py",
            "tests/e2e/test_console_records.py::test_the_browser_finds_what_does_not_fit",
        ),
    ),
    Promise(
        says="What is told of exposure is counted from the ledger: nothing used that did not stand, and nothing standing beyond "
        "the period.",
        against=(),
        tests=("tests/property/test_exposure.py", "tests/integration/test_exposure_and_search.py"),
    ),
    Promise(
        says="A task that is told in parts is told as its records say: no step is left out or told twice, and its labels are the task's "
        "own.",
        against=(),
        tests=("tests/property/test_outline.py", "tests/integration/test_console_task.py::test_a_long_story_comes_in_parts"),
    ),
    Promise(
        says="What a tool counts as is what a person accepted: a tool that changes is not called until it is pinned again.",
        against=("hostile or changed tool server",),
        tests=(
            "tests/e2e/test_gateway_life.py::test_a_tool_that_changes_while_the_task_runs",
            "tests/integration/test_upstream_stdio.py::test_a_changed_tool_is_not_called_until_it_is_pinned_again",
            "tests/integration/test_upstream_http.py::test_a_changed_tool_is_not_called_until_it_is_pinned_again",
        ),
    ),
    Promise(
        says="Where all servers stand at one address, no server's name for a tool leads to another server's.",
        against=("hostile or changed tool server",),
        tests=("tests/property/test_joint_names.py", "tests/e2e/test_joint_endpoint.py"),
    ),
    Promise(
        says=(
            "An agent that is no longer what it was when its task began is refused until a person has accepted exactly that change, "
            "and taking a change back does not undo it."
        ),
        against=("hijacked agent", "hostile or changed tool server"),
        tests=("tests/property/test_manifest.py", "tests/e2e/test_drift.py"),
    ),
    Promise(
        says="A token that is expired, foreign, tampered with or unsigned opens nothing.",
        against=("thief of a token",),
        tests=("tests/unit/test_claims.py", "tests/e2e/test_bad_input_gateway.py::test_tokens_that_open_nothing"),
    ),
    Promise(
        says="A token that was revoked, or is shown without the key it is bound to, opens nothing; a proof of identity or of possession "
        "counts once.",
        against=("thief of a token",),
        tests=(
            "tests/integration/test_dpop.py",
            "tests/property/test_token_requests.py",
            "tests/integration/test_key_rotation.py",
            "tests/integration/test_token_service.py::test_what_is_revoked_opens_nothing_at_any_door_while_its_task_lives",
            "tests/e2e/test_open_streams.py",
            "tests/integration/test_status_lists.py",
            "tests/integration/test_token_attacks.py::test_an_assertion_is_used_once_whoever_is_first",
        ),
    ),
    Promise(
        says="Whoever does not prove to be an agent gets no token, and an agent only for its own tasks: known attacks on token services "
        "are refused alike, and recorded.",
        against=("thief of a token", "hijacked agent"),
        tests=("tests/integration/test_token_attacks.py", "tests/integration/test_token_service.py"),
    ),
    Promise(
        says=(
            "A proof of identity counts only from whom the configuration trusts, for what that one may vouch for, and opens a task once; "
            "nothing in it leads anywhere, and no issuer, however broken, holds remit up."
        ),
        against=("forger of identities", "the network"),
        tests=(
            "tests/property/test_identity_mapping.py",
            "tests/integration/test_trust_attacks.py",
            "tests/unit/test_trust_configuration.py",
            "tests/integration/test_tls.py",
            "tests/e2e/test_identity_from_elsewhere.py",
        ),
    ),
    Promise(
        says=(
            "An SVID goes only to a process that the kernel shows to be the agent, after it was recorded, and to none whose task is not "
            "active; one process is never two agents."
        ),
        against=("another process on the machine", "hijacked agent"),
        tests=(
            "tests/property/test_attestation.py",
            "tests/integration/test_workload_api.py",
            "tests/unit/test_workload_configuration.py",
            "tests/e2e/test_workload_api.py::test_remit_run_vouches_for_what_it_started_and_for_nobody_else",
        ),
    ),
    Promise(
        says="An X.509-SVID says one identity and signs for nobody; its authority was known before it signed, "
        "and until all it signed has ended.",
        against=("another process on the machine",),
        tests=(
            "tests/property/test_x509_svid.py",
            "tests/integration/test_workload_api.py::test_a_new_authority_is_known_before_it_signs_and_until_all_it_signed_has_ended",
        ),
    ),
    Promise(
        says=(
            "A client that a person drives gets a task only by that person's consent to what it may do, once, and the answer goes "
            "nowhere but to an address of the client's own."
        ),
        against=("client of people, or a page they open",),
        tests=("tests/integration/test_front_channel.py", "tests/integration/test_people.py", "tests/property/test_front_channel.py"),
    ),
    Promise(
        says="A page in a browser cannot speak to the gateway, whatever name leads there.",
        against=("web page on the same machine",),
        tests=("tests/e2e/test_bad_input_gateway.py::test_a_name_that_was_rebound",),
    ),
    Promise(
        says="The console is shown to whoever proved who they are and has the role for it, as the configuration has it at that moment; a "
        "link opens it once, a session ends everywhere at once, and no page of another site presses its buttons.",
        against=("visitor of the console", "web page on the same machine"),
        tests=(
            "tests/integration/test_console_sign_in.py",
            "tests/integration/test_console_roles.py",
            "tests/integration/test_console_live.py",
            "tests/integration/test_console_nodes.py",
            "tests/e2e/test_console.py",
            "tests/e2e/test_console_records.py::test_pages_stay_small_and_hostile_texts_are_text",
        ),
    ),
    Promise(
        says="Where a rule wants a passkey, a yes is given by whoever has it, for exactly that question, once, and at no other door.",
        against=("visitor of the console",),
        tests=("tests/integration/test_console_approvals.py", "tests/e2e/test_console.py"),
    ),
    Promise(
        says="What strangers wrote is text on every page of the console: it runs nothing, hides nothing, and makes no page larger than "
        "200 KB.",
        against=("visitor of the console", "hostile content"),
        tests=("tests/integration/test_console_task.py", "tests/e2e/test_console.py"),
    ),
    Promise(
        says="Who asks for decisions gets answers about its own tasks and applications only; what a policy does not name sways nothing.",
        against=("enforcement point (a caller of `[access]`)",),
        tests=(
            "tests/property/test_applications.py",
            "tests/integration/test_access_bad_input.py",
            "tests/integration/test_access_tasks.py::test_whose_task_it_is_not_gets_nothing",
            "tests/integration/test_access_tasks.py::test_a_caller_asks_about_its_own_applications_only",
        ),
    ),
    Promise(
        says=(
            "Every recorded decision is made again to the same answer, from the ledger and the rules of its day; "
            "what cannot be is said (8)."
        ),
        against=("insider with the database",),
        tests=(
            _LIFE,
            *_SIMULATION,
            "tests/property/test_replay.py",
            "tests/integration/test_access_replay.py",
            "tests/integration/test_policy_work.py::test_a_changed_entry_is_not_replayed",
            "tests/integration/test_policy_work.py::test_another_ledger_is_refused",
        ),
    ),
    Promise(
        says=(
            "From the moment a signal is accepted, no call of what it concerns is allowed; a token that is not of a configured "
            "transmitter, or that came before, changes nothing."
        ),
        against=("sender of signals",),
        tests=(
            "tests/property/test_signals.py",
            "tests/unit/test_event_tokens.py",
            "tests/integration/test_signals_received.py",
        ),
    ),
    Promise(
        says=(
            "No metadata, key set or stream leads a request of remit into a private network, unless that entry of the configuration "
            "says so."
        ),
        against=("sender of signals",),
        tests=(
            "tests/unit/test_outward.py",
            "tests/integration/test_signals_received.py::test_metadata_in_a_private_network_is_not_fetched_unless_that_is_said",
            "tests/integration/test_signals_told.py::test_streams_are_managed_by_whom_they_tell_and_go_where_the_configuration_says",
        ),
    ),
    Promise(
        says=(
            "A receiver is told every end of a task, in order, through restarts and outages, and nothing of the task's inputs, "
            "objective or reasons."
        ),
        against=("sender of signals",),
        tests=(
            "tests/property/test_signals.py::test_every_end_is_told_and_nothing_but_ends_is_a_revoked_session",
            "tests/property/test_signals.py::test_every_end_is_given_until_it_is_acknowledged_and_then_never_again",
            "tests/property/test_signals.py::test_of_two_who_write_one_version_one_has_it",
            "tests/property/test_signals.py::test_acknowledgements_pass_nothing_that_was_not_acknowledged",
            "tests/integration/test_signals_told.py",
        ),
    ),
    Promise(
        says="What is proposed as the narrowest grant still covers all the work it was made from.",
        against=("hijacked agent",),
        tests=("tests/property/test_mining.py",),
    ),
    Promise(
        says="A report counts only what a verified ledger holds, calls nothing shown that nobody exercised, and says where an entry speaks "
        "against it.",
        against=("insider with the database",),
        tests=("tests/unit/test_report.py", "tests/e2e/test_reports.py"),
    ),
    Promise(
        says="A drill says which known incidents the rules of a folder would not hold, counts nothing as held that was not tried, and "
        "touches nothing real.",
        against=("hijacked agent", "thief of a token", "hostile or changed tool server"),
        tests=("tests/e2e/test_drills.py",),
    ),
)
