"""``remit policy``: check policies, and work on them with what was recorded."""

from __future__ import annotations

import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from remit.cli.common import REFUSED, emit, folder_option, json_option, reports_errors, safe, say
from remit.cli.replaying import replayed, verified
from remit.drivers.key_wrapping import open_folder_key
from remit.drivers.keys import bundle_key
from remit.drivers.targets.kinds import TARGET_KINDS
from remit.errors import Mistake, NotFound
from remit.logic.bundle import SEQUENCE_MAX, make_bundle
from remit.logic.checkpoint import Verifier
from remit.logic.explain_decision import Explanation, explain
from remit.logic.policy_review import review, undivided
from remit.node import load_rules, open_node
from remit.services.candidates import read_candidate
from remit.services.configuration import load_configuration
from remit.services.mining import Mined, mine
from remit.services.pins import Pins
from remit.services.reading import Mistakes, near, read_text, read_texts
from remit.services.replay import Replayed, Verified
from remit.services.rules import known_names, unanswerable
from remit.services.scenario_files import TEST_ENDING, read_scenarios
from remit.services.scenarios import ScenarioClock, Stage, Tested, play

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from remit.settings import Configuration, Settings


@click.group()
def policy() -> None:
    """The organisation's policy."""


@policy.command("check")
@click.option("--schema", is_flag=True, help="Print the generated Cedar schema: what policies may name.")
@click.option("--strict", is_flag=True, help="Warnings count as findings too (exit code 1).")
@folder_option
@json_option
@reports_errors
async def policy_check(schema: bool, strict: bool, folder: Path, as_json: bool) -> int:
    """Check the whole folder: configuration, task types, policies against the generated schema and each other. Starts nothing."""
    configuration, rulebook = load_rules(folder.resolve())
    if schema:
        click.echo(rulebook.policies.schema_json)
        return 0
    unpinned = sorted({*configuration.servers, *configuration.python_servers} - Pins(folder.resolve()).servers)
    for server in unpinned:
        say(f"note: {server} is not pinned yet, so policies cannot name its tools: remit pin {server}")
    if configuration.bundle is not None and any(folder.resolve().glob("policies/*.cedar")):
        say("note: policies come from the bundle; policies/*.cedar of this folder are not in force")
    if not configuration.policies:
        say("note: there is no policy, so nothing is permitted: policies/*.cedar")
    nobody = unanswerable(configuration, rulebook)
    for why in nobody:
        say(f"note: {why}")
    divisible = {name: TARGET_KINDS[target.kind].divisible for name, target in configuration.targets.items()}
    findings = (
        *undivided(configuration.task_types.values(), divisible),
        *review(rulebook.policies, known_names(configuration, rulebook)),
    )
    for finding in findings:
        say("\n".join(safe(line) for line in str(finding).splitlines()))
    wrong = [finding for finding in findings if strict or finding.level == "error"]
    data = {
        "unanswerable": nobody,
        "policies": list(rulebook.policies.ids),
        "task_types": sorted(configuration.task_types),
        "tools": sorted(rulebook.pinned),
        "unpinned": unpinned,
        "policy_set": rulebook.policies.digest,
        "findings": findings,
    }
    word = "not good" if wrong else "good"
    human = (
        f"{word}: {len(rulebook.policies.ids)} policies, {len(configuration.task_types)} task types, {len(rulebook.pinned)} pinned tools"
    )
    emit(data, human, as_json=as_json)
    return REFUSED if wrong else 0


@policy.command("explain")
@click.argument("decision")
@folder_option
@json_option
@reports_errors
async def policy_explain(decision: str, folder: Path, as_json: bool) -> None:
    """Explain the recorded DECISION: its facts, which key refused, which policy, and what would change the answer."""
    async with open_node(folder.resolve()) as node:
        history = node.history()
        moment = await history.find(decision)
        facts = await history.facts(moment)
        rulebook, _ = await history.rulebook(moment.body)
    explanation = explain(facts, rulebook.policies, moment.body, whole=moment.arguments is not None)
    emit(explanation, "\n".join(_explained(decision, explanation)), as_json=as_json)


@policy.command("replay")
@click.option(
    "--verify", "verifying", is_flag=True, help="Decide everything again under the rules of its day: does the ledger tell the truth?"
)
@click.option("--candidate", type=click.Path(path_type=Path), help="A folder with *.cedar files (or with policies/), or a signed bundle.")
@click.option("--since", default="", help="Only decisions from this day or time on (ISO 8601; UTC where no zone is given).")
@click.option("--type", "task_type", default="", help="Only tasks of this type.")
@folder_option
@json_option
@reports_errors
async def policy_replay(verifying: bool, candidate: Path | None, since: str, task_type: str, folder: Path, as_json: bool) -> int:
    """Decide recorded calls again: under the rules of their day (--verify), or under a candidate policy: what would flip?"""
    if verifying == (candidate is not None) or (verifying and (since or task_type)):
        raise Mistake("say either --verify, or --candidate DIR with or without --since and --type", code="usage")
    begin = _moment(since) if since else None
    if candidate is None:
        whole = await verified(folder.resolve())
        emit(whole, "\n".join(_verified(whole)), as_json=as_json)
        return 0 if whole.good else REFUSED
    files = read_candidate(candidate, load_configuration(folder.resolve()).settings.bundle_keys)
    told = await replayed(folder.resolve(), files, since=begin, task_type=task_type)
    emit(told, "\n".join(_replayed(told)), as_json=as_json)
    return REFUSED if told.flips or told.unknown else 0


@policy.command("test")
@folder_option
@json_option
@reports_errors
async def policy_test(folder: Path, as_json: bool) -> int:
    """Play the scenarios beside the policies (policies/*.test.toml): what must be allowed, asked or denied. Touches nothing real."""
    folder, clock = folder.resolve(), ScenarioClock()
    configuration, rulebook = load_rules(folder)
    known = rulebook.policies.ids
    scenarios = read_scenarios(_tests(folder, configuration), configuration, known)
    with tempfile.TemporaryDirectory(prefix="remit-") as scratch:
        async with open_node(folder, deciding=True, scratch=Path(scratch), clock=clock) as node:
            tested = await play(Stage(node.dispatcher, node.mediation, node.tasks, clock), scenarios, known)
    emit(tested, "\n".join(_tested(tested)), as_json=as_json)
    return REFUSED if tested.failed else 0


@policy.command("mine")
@click.argument("task_type")
@click.option("--without", multiple=True, help="A task that does not count as honest work (may be given several times).")
@click.option("--patch", "only_patch", is_flag=True, help="Print the patch alone, for `git apply`.")
@folder_option
@json_option
@reports_errors
async def policy_mine(task_type: str, without: tuple[str, ...], only_patch: bool, folder: Path, as_json: bool) -> int:
    """Propose the narrowest grant and policies that cover what completed tasks of TASK_TYPE did: a patch to review. Changes nothing."""
    folder = folder.resolve()
    async with open_node(folder) as node:
        kind = node.configuration.task_types.get(task_type)
        if kind is None:
            raise NotFound(f"there is no task type {task_type[:80]!r}", hint=near(task_type, node.configuration.task_types))
        own = f"tasks/{task_type}.toml"
        policies = node.configuration.policies if node.configuration.bundle is None else {}
        texts = {own: read_text(folder / own, own), **policies}
        mined = await mine(
            node.history(), node.tasks.view, kind, node.rules.rulebook.policies, texts=texts, policy_files=tuple(policies), without=without
        )
    emit(mined, mined.patch.rstrip("\n") if only_patch else "\n".join(_mined(mined)), as_json=as_json)
    return REFUSED if mined.not_covered else 0


@policy.command("bundle")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The file to write.")
@click.option(
    "--key", "key_file", type=click.Path(dir_okay=False, path_type=Path), help="The signing key (default: policies.key in trust.keys)."
)
@click.option("--name", default="", help="The signer's name (default: TRUST-DOMAIN/policies).")
@click.option("--sequence", type=click.IntRange(1, SEQUENCE_MAX), help="Higher than any bundle before (default: the time in seconds).")
@folder_option
@json_option
@reports_errors
async def policy_bundle(out: Path, key_file: Path | None, name: str, sequence: int | None, folder: Path, as_json: bool) -> None:
    """Sign policies/*.cedar and their tests as one file, and print the key that verifies it (policies.bundle_keys)."""
    folder = folder.resolve()
    configuration, rulebook = load_rules(folder)
    files = {**configuration.policies, **_tests(folder, configuration)}
    signer = name or f"{configuration.settings.trust_domain}/policies"
    key = bundle_key(key_file) if key_file else _bundle_key(configuration.settings)
    number = sequence or int(datetime.now(UTC).timestamp())
    fresh = out.with_name(f".{out.name}.{os.getpid()}")
    fresh.write_text(make_bundle(files, signer, number, key), encoding="utf-8")
    os.replace(fresh, out)  # a node that looks meanwhile sees the old one or the new one
    vkey = str(Verifier.of(signer, key))
    data = {"file": str(out), "sequence": number, "policies": list(rulebook.policies.ids), "key": vkey}
    emit(data, f'{out}: {len(files)} files, sequence {number}\nbundle_keys = ["{vkey}"]', as_json=as_json)


def _bundle_key(settings: Settings) -> Ed25519PrivateKey:
    folder_key = open_folder_key(settings.keys, settings.key_encryption, settings.trust_domain)
    return bundle_key(settings.keys / "policies.key", folder_key)


def _tests(folder: Path, configuration: Configuration) -> dict[str, str]:
    """The scenario files beside the policies in force: of the bundle, or of the folder."""
    if configuration.bundle is not None:
        return configuration.bundle.tests
    found: list[Mistake] = []
    tests = read_texts(folder, "policies", TEST_ENDING, found)
    if found:
        raise Mistakes(found)
    return {name: text for name, text in tests.items() if text is not None}


def _tested(told: Tested) -> Iterator[str]:
    for one in told.failed:
        yield f"{safe(one.where)}: {safe(one.scenario)}: expected {safe(one.expected)}, got {safe(one.got)}"
        yield f"  → {safe(one.why)}"
    if told.unexercised:
        yield f"no scenario exercises: {', '.join(map(safe, told.unexercised))}"
    good = told.scenarios - len(told.failed)
    yield f"{good} of {told.scenarios} scenarios hold" if told.scenarios else f"there is no scenario: policies/*{TEST_ENDING}"


def _mined(told: Mined) -> Iterator[str]:
    yield f"{told.tasks} completed tasks of {told.task_type}, {told.calls} allowed calls; the proposal covers {told.covered} of them"
    for one in told.not_covered:
        yield f"  NOT covered: {safe(one)}"
    for name, found in (("lines of the grant", told.unused_grants), ("permits", told.unused_permits), ("forbids", told.unused_forbids)):
        if found:
            yield f"unused {name}: {', '.join(map(safe, found))}"
    for note in told.notes:
        yield f"note: {safe(note)}"
    yield from (safe(line) for line in told.patch.splitlines())


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Mistake(f"--since {text[:40]!r} is no time", code="usage", hint="2026-11-24, or 2026-11-24T08:00:00+01:00") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _explained(decision: str, told: Explanation) -> Iterator[str]:
    yield f"{decision}: {told.outcome}"
    for reason in told.reasons:
        yield f"  because  {safe(reason)}"
    if told.refused_by:
        yield f"  refused by: {', '.join(told.refused_by)}"
    for one in told.policies:
        yield f"  policy   {safe(one)}"
    width = max(map(len, told.facts))
    for name, value in told.facts.items():
        yield f"  {name:<{width}}  {safe(value)}"
    for origin in told.origins:
        yield f"  origin   {safe(origin)}"
    if told.missing:
        yield f"note: {told.missing}"
    for change in told.changes:
        yield f"  {change.would_be:<5} {safe(change.what)}"
    if not told.changes and not told.missing:
        yield "  no change that was tried alters the answer"


def _verified(told: Verified) -> Iterator[str]:
    word = "every decision agrees" if told.good else "NOT every decision agrees"
    yield f"{word}: {told.decisions} decisions, {told.agrees} whole, {told.partly} in part, {told.differs} differ, {told.unknown} unknown"
    for one in told.found:
        yield f"  entry {one.index} {one.decision or one.task}: {safe(one.what)}"
    for why, count in sorted(told.missing.items(), key=lambda item: -item[1]):
        yield f"  {count} times: {safe(why)}"


def _replayed(told: Replayed) -> Iterator[str]:
    flipped = sum(flip.count for flip in told.flips)
    yield f"{told.decisions} decisions: {told.same} as they were, {flipped} otherwise, {sum(told.unknown.values())} cannot be told"
    for flip in told.flips:
        yield f"{flip.was} → {flip.would_be}  {flip.count} times  {safe(flip.task_type)}  {safe(flip.agent)}  {safe(flip.tool)}"
        for example in flip.examples:
            yield f"    {example['at']} {example['decision']} {safe(example['arguments'])}: {safe(example['now'])}"
    for why, count in sorted(told.unknown.items(), key=lambda item: -item[1]):
        yield f"  {count} times: {safe(why)}"
