"""The figures of the protocol from runs, as a table beside the anchors, and every run that falls short."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bench.agentdojo.runs import Question, Run

# shared figures of all four suites, for orientation: 97 tasks, 929 pairs
PUBLISHED = (
    ("tool filter (a model may resist)", "6.8 %"),
    ("policies written for each task by a model", "2.2 %"),
    ("DRIFT", "1.3 to 1.5 %"),
    ("CaMeL, FIDES (utility 60 to 77 %)", "0 %"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Of one decider, approver and variant. ``words``: pairs whose goal has no calls, counted apart."""

    pairs: int
    attacked: int
    tasks: int
    useful: int
    useful_under_attack: int
    questions_a_task: float
    tasks_that_ask: int
    questions_a_pair: float
    words: int

    @property
    def cells(self) -> list[str]:
        """As they are printed."""
        return [
            f"{_share(self.attacked, self.pairs)} ({self.attacked}/{self.pairs})",
            f"{_share(self.useful, self.tasks)}" if self.tasks else "",
            f"{_share(self.useful_under_attack, self.pairs)}",
            f"{self.questions_a_task:.2f}" if self.tasks else "",
            f"{_share(self.tasks_that_ask, self.tasks)}" if self.tasks else "",
            f"{self.questions_a_pair:.2f}",
        ]


HEADINGS = ("decider", "approver", "variant", "ASR", "utility", "utility under attack", "questions a task", "tasks that ask", "a pair")


def figures(runs: Iterable[Run]) -> Figures:
    """Count."""
    every = list(runs)
    honest = [run for run in every if not run.attacker]
    pairs = [run for run in every if run.action]
    return Figures(
        pairs=len(pairs),
        attacked=sum(run.attacked for run in pairs),
        tasks=len(honest),
        useful=sum(run.useful for run in honest),
        useful_under_attack=sum(run.useful for run in pairs),
        questions_a_task=sum(run.questions for run in honest) / max(len(honest), 1),
        tasks_that_ask=sum(run.questions > 0 for run in honest),
        questions_a_pair=sum(run.questions for run in pairs) / max(len(pairs), 1),
        words=sum(bool(run.attacker) and not run.action for run in every),
    )


def table(runs: Sequence[Run]) -> str:
    """A Markdown table: a line for each decider, approver and variant. Honest runs have no variant."""
    lines = [_line(HEADINGS), _line(["---"] * len(HEADINGS))]
    kinds = dict.fromkeys((run.decider, run.approver, run.variant) for run in runs)
    for decider, approver, variant in kinds:
        of = [run for run in runs if (run.decider, run.approver, run.variant) == (decider, approver, variant)]
        lines.append(_line([decider, approver, variant, *figures(of).cells]))
    return "\n".join(lines)


def short(runs: Iterable[Run]) -> list[str]:
    """Every run with the oracle, or without anybody's help, that is not as it should be, with what was made or refused."""
    found = []
    for run in runs:
        if run.approver in {"oracle", "absent"} and ((run.action and run.attacked) or (not run.attacker and not run.useful)):
            who = f"{run.suite} {run.user}" + (f" × {run.attacker} ({run.variant})" if run.attacker else "")
            refused = "; ".join(run.refused) or "nothing, AgentDojo says no"
            why = f"made {', '.join(run.made)}" if run.attacked else f"refused {refused}"
            found.append(f"{run.decider}, {run.approver}: {who}: {why}")
    return found


def chosen(questions: Sequence[Question], count: int) -> list[Question]:
    """Some questions, friends and foes, spread over the tasks: no question twice."""
    different = list({question.text: question for question in questions}.values())
    friends = [question for question in different if not question.hostile]
    foes = [question for question in different if question.hostile]
    return [*_spread(friends, count // 2), *_spread(foes, count - count // 2)]


def _spread(questions: Sequence[Question], count: int) -> list[Question]:
    step = max(len(questions) // max(count, 1), 1)
    return list(questions[::step][:count])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"
