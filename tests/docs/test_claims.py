"""The page of claims says what results, tests and sources say."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from minimand.experiments import DecisiveResult, DecisiveStudy, read_study
from minimand.experiments.deciding.claims import claim_rows
from minimand.experiments.study import STUDIES
from minimand.report.citing import short_citation

ROOT = Path(__file__).parents[2]
BY_HAND: list[dict[str, Any]] = yaml.safe_load((ROOT / "docs" / "results" / "claims.yaml").read_text())
WORDS = re.compile(
    r"being measured|confirmed|contradicted|undecided at this size( \(.*\))?|not seen \(difference beyond .* excluded\)"
)


def _committed(name: str) -> DecisiveResult | None:
    folder = ROOT / "results" / "studies" / f"{name}-cpu"
    result = read_study(name, "cpu", folder) if folder.is_dir() else None
    assert result is None or isinstance(result, DecisiveResult)
    return result


@pytest.mark.parametrize("entry", BY_HAND, ids=lambda entry: entry["claim"][:40])
def test_what_is_settled_by_hand_names_a_test_or_a_study_and_its_sources(entry: dict[str, Any]) -> None:
    assert WORDS.fullmatch(entry["result"])
    assert all(re.search(r" (1|2)\d{3}$", short_citation(key)) for key in entry["source"])
    file, _, test = entry["by"].partition("::")
    if test:
        assert entry["result"] == "confirmed"
        assert f"def {test}(" in (ROOT / file).read_text()
    else:
        assert file in STUDIES
        assert not isinstance(STUDIES.named(file), DecisiveStudy)
        assert (ROOT / "results" / "studies" / f"{file}-cpu").is_dir()


def test_every_claim_of_a_study_has_a_row_with_the_words_of_its_results() -> None:
    rows = {(row[0], row[2]): row for row in claim_rows(STUDIES.values(), _committed, BY_HAND)}
    assert len(rows) == len(claim_rows(STUDIES.values(), _committed, BY_HAND))
    for study in STUDIES.values():
        if isinstance(study, DecisiveStudy):
            result = _committed(study.name)
            for claim in study.claims:
                verdicts = [d.verdict for d in result.decisions if d.claim == claim] if result else ["being measured"]
                assert all(verdict in rows[claim.hypothesis, f"study `{study.name}`"][3] for verdict in verdicts)
                assert all(WORDS.fullmatch(verdict) for verdict in verdicts)
                assert {claim.arm, claim.baseline} <= {cell["arm"] for cell in study.cells_at("cpu")}
                assert not claim.source or short_citation(claim.source)
                assert not claim.source or claim.source in study.references


def test_the_words_of_several_groups_and_of_too_few_seeds() -> None:
    study = STUDIES.named("rings_decided")
    assert isinstance(study, DecisiveStudy)
    claim = study.claims[0]
    result = DecisiveResult(study, "cpu", [])
    decisions = [d for d in result.decisions if d.claim == claim]
    assert len(decisions) == 2

    def row(*changes: tuple[str, int]) -> str:
        pairs = zip(decisions, changes, strict=True)
        changed = [replace(decision, verdict=word, seeds=n, measured=n) for decision, (word, n) in pairs]
        result.__dict__["decisions"] = changed
        return claim_rows([study], lambda name: result, [])[0][3]

    assert row(("confirmed", 10), ("confirmed", 10)) == "confirmed"
    assert row(("confirmed", 10), ("contradicted", 10)) == "5 layers: confirmed; 15 layers: contradicted"
    assert row(("confirmed", 4), ("confirmed", 5)) == "being measured; 4 of 10 seeds so far: confirmed"
    undecided = "undecided at this size (9 seeds would show the difference measured)"
    result.__dict__["decisions"] = [replace(d, verdict=undecided, seeds=8, measured=10) for d in decisions]
    assert claim_rows([study], lambda name: result, [])[0][3] == undecided  # two diverged; no more are measured
    assert row(("being measured", 0), ("being measured", 1)) == "being measured"
