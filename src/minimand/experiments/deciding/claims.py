"""The claims of the sources in one table: what tests each of them, and what came of it."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ...report.citing import short_citation
from ..study import Study
from .decided import NOT_YET, Decision, DecisiveResult
from .decisive import DecisiveStudy

COLUMNS = ("claim", "source", "tested by", "result")
"""The heads of the table of claims."""


def claim_rows(
    studies: Iterable[Study], read: Callable[[str], DecisiveResult | None], by_hand: Iterable[Mapping[str, Any]]
) -> list[list[str]]:
    """The rows of the table of claims: those of studies with a plan, then those that are settled by hand.

    `read` gives the result of a study by its name, None where there is none yet; an entry by hand has `claim`,
    `source`, `by` and `result`.
    """
    rows = []
    for study in studies:
        if isinstance(study, DecisiveStudy):
            result = read(study.name)
            decisions = [] if result is None else result.decisions
            for claim in study.claims:
                source = short_citation(claim.source) if claim.source else "ours"
                words = _words([decision for decision in decisions if decision.claim == claim], study)
                rows.append([claim.hypothesis, source, f"study `{study.name}`", words])
    for entry in by_hand:
        test = entry["by"]
        tested_by = (
            f"`{test.rpartition('::')[2]}` in `{test.partition('::')[0]}`" if "::" in test else f"study `{test}`"
        )
        rows.append([entry["claim"], ", ".join(map(short_citation, entry["source"])), tested_by, entry["result"]])
    return rows


def _words(decisions: list[Decision], study: DecisiveStudy) -> str:
    """The verdicts on a claim, by group where there are several; those of fewer seeds than planned are so far."""
    if not decisions:
        return NOT_YET
    verdicts = {str(decision.group): decision.verdict for decision in decisions}
    same = len(set(verdicts.values())) == 1
    text = next(iter(verdicts.values())) if same else "; ".join(f"{g}: {word}" for g, word in verdicts.items())
    seeds = min(decision.measured for decision in decisions)
    if text == NOT_YET or seeds >= study.seeds:
        return text
    return f"{NOT_YET}; {seeds} of {study.seeds} seeds so far: {text}"
