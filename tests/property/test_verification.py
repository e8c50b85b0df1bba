"""Verification of an export says one thing, however the file is cut and however many work at it: what a naive reading of it says."""

from __future__ import annotations

import base64
import json
import os

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remit.errors import Mistake
from remit.logic import audit
from remit.logic.audit import EXPORT_HEADER, Tampered, Verified, export_line, verify_export
from remit.logic.audit_stretch import stretch_of
from remit.logic.checkpoint import Checkpoint, Verifier, open_checkpoint, sign_checkpoint
from remit.logic.merkle import completed, leaf_hash, root_of
from remit.services import verifying, verifying_errands
from remit.services.verifying import verify_file

KEY = Ed25519PrivateKey.generate()
VERIFIER = Verifier.of("o", KEY)


def body_of(task: str | None, seq: int, filling: str = "") -> bytes:
    record = {"at": "2026-01-01T00:00:00Z", "body": {"reason": filling}, "kind": "call.decided", "seq": seq, "task": task, "v": 1}
    return json.dumps(record, sort_keys=True, separators=(",", ":")).encode()


def lines_of(body: bytes) -> list[bytes]:
    return [export_line("leaf", leaf_hash(body)).encode(), export_line("entry", body).encode()]


def export_of(bodies: list[bytes], heads: set[int]) -> list[bytes]:
    """What a log exports that signed its head at these sizes, and at its end."""
    lines, frontier = [EXPORT_HEADER.encode()], ()
    for number, body in enumerate(bodies, 1):
        lines += lines_of(body)
        frontier, _ = completed(frontier, number - 1, leaf_hash(body))
        if number in heads or number == len(bodies):
            lines.append(export_line("checkpoint", sign_checkpoint(Checkpoint("o", number, root_of(frontier)), KEY).encode()).encode())
    return lines


def naive(text: bytes) -> Verified | tuple[int, int]:
    """A line, then the next; what is whole, or the first and last entry that do not fit."""
    header, *lines = text.removesuffix(b"\n").split(b"\n") if text else [b""]
    frontier, size, covered, checkpoints, suspect, awaited, counts = (), 0, 0, 0, None, None, {}
    if header != EXPORT_HEADER.encode():
        return 0, 0
    for line in lines:
        kind, _, encoded = line.partition(b" ")
        try:
            data = base64.b64decode(encoded, validate=True)
        except ValueError:
            return suspect or (size, size)
        if kind == b"leaf" and not awaited:
            awaited = data
        elif kind == b"entry" and awaited == leaf_hash(data):
            frontier, _ = completed(frontier, size, awaited)
            task, seq = placed(data)
            if seq is None or (task is not None and seq != counts.get(task, 0) + 1):
                suspect = suspect or (size, size)
            counts[task], awaited, size = seq, None, size + 1
        elif kind == b"checkpoint" and not awaited:
            if suspect:
                return suspect
            try:
                head = open_checkpoint(data.decode(), VERIFIER)
            except (Mistake, UnicodeDecodeError):
                return covered, max(size - 1, covered)
            if (head.size, head.root) != (size, root_of(frontier)):
                return covered, max(head.size, size) - 1
            covered, checkpoints = size, checkpoints + 1
        else:
            return suspect or (size, size)
    if suspect or awaited:
        return suspect or (size, size)
    if covered != size or not checkpoints:
        return covered, max(size - 1, covered)
    return Verified(entries=size, checkpoints=checkpoints, root=root_of(frontier))


def placed(body: bytes) -> tuple[str | None, int | None]:
    try:
        record = json.loads(body)
        task, seq = record["task"], record["seq"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None, None
    return (task, seq) if isinstance(seq, int) and isinstance(task, str | None) else (None, None)


def said(outcome: Verified | Tampered) -> Verified | tuple[int, int]:
    return (outcome.first, outcome.last) if isinstance(outcome, Tampered) else outcome


class Here:
    """A helper without a process; now and then it is gone."""

    gone = frozenset()

    def __init__(self, file: int) -> None:
        self._file, self._asked = file, []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def ask(self, begin, lengths):
        self._asked.append((begin, lengths))

    def answer(self):
        begin, lengths = self._asked.pop(0)
        return None if begin in self.gone else stretch_of(verifying_errands._blocks(self._file, begin, lengths))


@st.composite
def exports(draw):
    """An export of a few tasks, records of several lengths, all of it signed; often, but not always, no number is missing."""
    seen: dict[str | None, int] = {None: 0}
    steps = st.just(1) if draw(st.booleans()) else st.sampled_from([1, 1, 1, 1, 0, 2, -1, 2**70])
    bodies = []
    for task in draw(st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1, max_size=40)):
        seen[task] = seen.get(task, 0) + draw(steps)
        bodies.append(body_of(task, seen[task], "x" * draw(st.sampled_from([0, 1, 2, 200]))))
    return export_of(bodies, draw(st.sets(st.integers(1, len(bodies)), max_size=4)))


DEEP = b"[" * 20_000 + b"]" * 20_000
FORGED = [
    *(b"", b"[]", b'{"seq":1,"task":"a"}', b'{"seq":2,"task":"a"}', b'{"seq":1.5,"task":null}'),
    b'{"body":' + DEEP + b',"seq":1,"task":"a"}',
]


SPOIL = {
    "flip": lambda lines, at, much: [*lines[:at], bytes([lines[at][0] ^ much, *lines[at][1:]]) if lines[at] else b"x", *lines[at + 1 :]],
    "turn": lambda lines, at, much: [*lines[:at], lines[at][:-much] + b"Q" + lines[at][1 - much :][: much - 1], *lines[at + 1 :]],
    "remove": lambda lines, at, much: [*lines[:at], *lines[at + much :]] or [b""],
    "double": lambda lines, at, much: [*lines[: at + much], *lines[at:]],
    "swap": lambda lines, at, much: [*lines[:at], *lines[at + 1 : at + 1 + much], lines[at], *lines[at + 1 + much :]],
    "move": lambda lines, at, much: [*lines[:at], *lines[at + 2 : at + 2 + 2 * much], *lines[at : at + 2], *lines[at + 2 + 2 * much :]],
    "cut": lambda lines, at, _: lines[: at + 1],
    "forge": lambda lines, at, much: [*lines[:at], *lines_of(FORGED[(at + much) % len(FORGED)]), *lines[at + 2 * (much % 2) :]],
    "blank": lambda lines, at, much: [*lines[:at], *([b""] * much), *lines[at:]],
    "escape": lambda lines, at, _: [*lines[:at], lines[at][:-3] + rb"\u0041" + lines[at][-2:], *lines[at + 1 :]],
    "quote": lambda lines, at, much: [*lines[:at], lines[at][:-much] + b'","' + lines[at][-much:], *lines[at + 1 :]],
}


@st.composite
def spoilt(draw):
    """An export, and what somebody made of it; often it is left as it was."""
    lines = draw(exports())
    for spoil in draw(st.lists(st.sampled_from(list(SPOIL.values())), max_size=2)):
        lines = spoil(lines, draw(st.integers(0, len(lines) - 1)), draw(st.integers(1, 4)))
    return b"\n".join(lines) + draw(st.sampled_from([b"\n", b""]))


def agreed(path, text: bytes, gone=frozenset()):
    """What all ways of verification say of a file, which is one thing."""
    path.write_bytes(text)
    Here.gone = gone
    with path.open("rb") as file:
        by_one = verify_file(file, VERIFIER, processes=1)
    with path.open("rb") as file:
        by_several = verify_file(file, VERIFIER, processes=3)
    assert by_several == by_one
    assert said(by_one) == naive(text)
    if text.isascii():
        assert verify_export(text.decode().splitlines(keepends=True), VERIFIER) == by_one
    return by_one


@pytest.fixture
def here(monkeypatch, tmp_path):
    monkeypatch.setattr(verifying, "Helper", Here)
    return tmp_path / "export.txt"


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    spoilt(), st.sampled_from([1, 50, 300, 2_000]), st.integers(0, 3), st.integers(1, 4), st.sampled_from([1, 100, 4_096]), st.booleans()
)
def test_a_file_means_the_same_however_it_is_cut_and_shared_out(here, monkeypatch, text, block, alone, at_once, near, broken_off):
    monkeypatch.setattr(verifying, "_BLOCK_BYTES", block)
    monkeypatch.setattr(verifying, "_BLOCKS_ALONE_MAX", alone)
    monkeypatch.setattr(verifying, "_BLOCKS_AT_ONCE", at_once)
    monkeypatch.setattr(verifying, "_NEAR_BYTES", near)
    agreed(here, text, gone=frozenset(range(1_500, 2_000)) if broken_off else frozenset())


@pytest.mark.parametrize("spoil", SPOIL)
def test_each_line_is_spoilt_in_turn(here, monkeypatch, spoil):
    monkeypatch.setattr(verifying, "_BLOCK_BYTES", 300)
    monkeypatch.setattr(verifying, "_BLOCKS_ALONE_MAX", 1)
    monkeypatch.setattr(verifying, "_BLOCKS_AT_ONCE", 3)
    bodies = [body_of(task, seq) for seq in range(1, 4) for task in ("a", "b", "c")]
    lines = export_of(bodies, {3, 5})
    text = b"\n".join(lines) + b"\n"
    assert isinstance(agreed(here, text), Verified)
    for at in range(len(lines)):
        for much in (1, 2, 3):
            changed = b"\n".join(SPOIL[spoil](lines, at, much)) + b"\n"
            outcome = agreed(here, changed)
            if isinstance(outcome, Verified):  # the same entries, or the first of them under an older head
                left, all_of_them = entries(changed.splitlines()), entries(lines)
                assert left == all_of_them[: len(left)]


@pytest.mark.parametrize("alone", [0, 1])
@pytest.mark.parametrize("blanks", [1, 2])
def test_a_blank_line_at_the_end_is_a_line_that_does_not_belong_there(here, monkeypatch, blanks, alone):
    monkeypatch.setattr(verifying, "_BLOCKS_ALONE_MAX", alone)
    for lines in ([EXPORT_HEADER.encode()], export_of([body_of("a", 1)], set())):
        found = agreed(here, b"\n".join(lines) + b"\n" * (1 + blanks))
        assert isinstance(found, Tampered)
        assert found.what == "a line is out of its place"


def entries(lines: list[bytes]) -> list[object]:
    return [carried(line) for line in lines if not line.startswith(b"checkpoint ")]


def carried(line: bytes) -> object:
    """What a line says: base64 has spare bits at its end, which say nothing."""
    kind, _, encoded = line.partition(b" ")
    try:
        return kind, base64.b64decode(encoded, validate=True)
    except ValueError:
        return line


@pytest.fixture(scope="module")
def many():
    """Enough for several stretches of several processes: 400 tasks side by side."""
    bodies = [body_of(f"task_{number % 400}", number // 400 + 1, "x" * (number % 300)) for number in range(6_000)]
    return export_of(bodies, {1, 2_500, 2_501})


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(verifying, "_BLOCK_BYTES", 20_000)
    monkeypatch.setattr(verifying, "_BLOCKS_ALONE_MAX", 1)
    monkeypatch.setattr(verifying, "_BLOCKS_AT_ONCE", 3)


def outcome_of(path, lines, processes=2):
    path.write_bytes(b"\n".join(lines) + b"\n")
    with path.open("rb") as file:
        return verify_file(file, VERIFIER, processes)


def entries_of(lines):
    return [number for number, line in enumerate(lines) if line.startswith(b"entry ")]


def test_processes_of_their_own_find_the_same(many, small, tmp_path):
    path, places = tmp_path / "export.txt", entries_of(many)
    whole = outcome_of(path, many)
    assert isinstance(whole, Verified)
    assert (whole.entries, whole.checkpoints) == (6_000, 4)
    at = places[4_321]
    changed = outcome_of(path, [*many[:at], many[at].replace(b"A", b"B"), *many[at + 1 :]])
    assert isinstance(changed, Tampered)
    assert (changed.first, changed.last) == (4_321, 4_321)
    removed = outcome_of(path, [*many[: at - 1], *many[at + 1 :]])
    assert isinstance(removed, Tampered)
    assert (removed.first, removed.last) == (4_720, 4_720)  # where the next record of that task stands now
    assert "removed" in removed.what
    forged = outcome_of(path, [*many[: at - 1], *lines_of(body_of("task_321", 11, "y")), *many[at + 1 :]])
    assert isinstance(forged, Tampered)
    assert (forged.first, forged.last) == (2_501, 5_999)
    assert "signed root" in forged.what


def test_a_helper_that_does_not_begin_or_dies_takes_no_verdict_with_it(many, small, tmp_path, monkeypatch):
    path = tmp_path / "export.txt"
    whole = outcome_of(path, many, processes=1)
    for program in (["false"], ["nowhere-to-be-found"], ["head", "-c", "9"]):
        monkeypatch.setattr(verifying_errands, "_command", lambda _, program=program: program)
        assert outcome_of(path, many) == whole
        spoilt = outcome_of(path, [*many[:-5], *many[-3:]])
        assert isinstance(spoilt, Tampered)


def test_a_file_of_a_folder_of_somebody_is_not_run(many, small, tmp_path, monkeypatch):
    """Verification goes on in the folder where the export lies, and that came from who is not trusted."""
    mark = tmp_path / "ran"
    for name in ("remit", "msgspec", "hashlib", "struct", "signal"):
        (tmp_path / f"{name}.py").write_text(f"open({str(mark)!r}, 'w')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [entry for entry in __import__("sys").path if entry not in {"", os.getcwd()}])
    assert isinstance(outcome_of(tmp_path / "export.txt", many), Verified)
    assert not mark.exists()


def test_what_comes_through_a_pipe_is_verified_too(many):
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        try:
            os.close(reading)
            with os.fdopen(writing, "wb") as out:
                out.write(b"\n".join(many) + b"\n")
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        outcome = verify_file(file, VERIFIER, processes=2)
    os.waitpid(child, 0)
    assert isinstance(outcome, Verified)
    assert outcome.entries == 6_000


def test_of_a_sea_of_tasks_the_oldest_are_forgotten_alike(many, small, tmp_path, monkeypatch):
    monkeypatch.setattr(audit, "_TASKS_MAX", 50)
    assert isinstance(outcome_of(tmp_path / "export.txt", many), Verified)


@pytest.mark.parametrize("body", [body for body in FORGED if placed(body)[1] != 1])
def test_an_entry_that_is_no_record_is_named(body):
    good = body_of("b", 1)
    found = verify_export([line.decode() for line in [EXPORT_HEADER.encode(), *lines_of(good), *lines_of(body)]], VERIFIER)
    assert isinstance(found, Tampered)
    assert found.first == 1


def test_json_would_read_an_escape_but_it_is_no_base64(tmp_path):
    lines = export_of([body_of("a", 1)], set())
    lines[2] = lines[2].replace(b"e", rb"\u0065", 2).replace(rb"\u0065", b"e", 1)
    assert outcome_of(tmp_path / "export.txt", lines) == Tampered(first=0, last=0, what="a line is damaged")
