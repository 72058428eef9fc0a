from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.training.release import rule
from covid_ct_mask_net.training.release.rule import fit_rule, pooled_all, threshold_for
from covid_ct_mask_net.training.release.scans import AssessedScan, write_scans
from covid_ct_mask_net.triage.support import LesionSupport


def _scans(
    count: int, shown: int, strength: float, seed: int = 0, *, outlined: bool = False
) -> list[AssessedScan]:
    """Scans of 30 slices, of which ``shown`` say the class of the scan and the others Control.

    With ``outlined``, as many slices of healthy scans say a disease too, and lesions are found in the others.
    """
    rng = np.random.default_rng(seed)
    scans = []
    for number in range(count):
        scan_class = number % 3
        logits = rng.normal(0, 1, (30, 3))
        logits[:, 0] += strength
        logits[:shown, 0] -= strength
        said = scan_class or (1 + number % 2 if outlined else 0)
        logits[:shown, said] += strength
        scores = np.zeros(30)
        scores[:shown] = 0.9 if scan_class or not outlined else 0.0
        scans.append(
            AssessedScan(
                str(number),
                scan_class,
                tuple(map(tuple, logits.tolist())),
                lesion_scores=tuple(scores.tolist()),
            )
        )
    return scans


@pytest.fixture(autouse=True)
def _few_temperatures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every third one: what is tested does not need a fine grid, which takes its time."""
    monkeypatch.setattr(rule, "_TEMPERATURES", rule._TEMPERATURES[::3])


def test_few_slices_with_disease_want_a_rule_of_few_slices() -> None:
    fitted = fit_rule(_scans(60, 4, 6.0))
    assert fitted.pooling in ("capped_extent_mean", "noisy_or")
    assert fitted.settings.get("k", 4) <= 8
    assert fitted.accuracy > 0.95
    assert fitted.scans == 60


def test_too_sure_logits_are_cooled() -> None:
    scans = _scans(90, 4, 2.5)
    hot = [
        replace(
            one,
            logits=tuple(map(tuple, (6 * np.array(one.logits)).tolist())),
            # One scan in five is not what its slices say.
            scan_class=(int(one.scan_class or 0) + (number % 5 == 0)) % 3,
        )
        for number, one in enumerate(scans)
    ]
    assert fit_rule(hot).temperature > 2 > fit_rule(scans).temperature


def test_of_temperatures_about_as_good_the_highest_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rule, "_CANDIDATES", (("mean", {}), ("noisy_or", {})))
    scans = _scans(60, 3, 2.0, seed=1)
    soft = fit_rule(scans)
    monkeypatch.setattr(rule, "_GIVEN_UP", 0.0)
    best = fit_rule(scans)
    assert (soft.pooling, soft.settings, soft.support) == (best.pooling, best.settings, best.support)
    assert soft.temperature > best.temperature
    assert best.loss < soft.loss <= 1.03 * best.loss


def test_the_threshold_reaches_the_sensitivity() -> None:
    disease = np.array([0.9, 0.45, 0.3, 0.2])
    assert threshold_for(disease, 0.75) == pytest.approx(0.3, abs=0.011)
    assert (disease >= threshold_for(disease, 1.0)).all()
    assert threshold_for(np.array([0.99, 0.98]), 1.0) == 0.5
    with pytest.raises(UsageError):
        threshold_for(disease, 0.0)


def test_the_fitted_figures_are_those_of_the_rule() -> None:
    scans = _scans(60, 3, 2.0, seed=1)
    fitted = fit_rule(scans, 0.9)
    support = LesionSupport(**fitted.support)
    chances = pooled_all(scans, fitted.pooling, fitted.settings, fitted.temperature, support)
    true = np.array([scan.scan_class for scan in scans])
    disease = 1 - chances[:, 0]
    assert (chances.argmax(axis=1) == true).mean() == pytest.approx(fitted.accuracy, abs=0.02)
    assert (disease[true > 0] >= fitted.threshold).mean() == pytest.approx(fitted.sensitivity)
    assert fitted.sensitivity >= 0.9


def test_lesions_are_asked_for_where_they_tell_the_healthy_from_the_diseased() -> None:
    fitted = fit_rule(_scans(60, 12, 6.0, outlined=True))
    assert fitted.support["weight"] == 0.25
    assert fitted.accuracy > 0.9


def test_scans_of_one_kind_are_refused() -> None:
    healthy = [scan for scan in _scans(9, 3, 1.0) if scan.scan_class == 0]
    with pytest.raises(UsageError, match="with and without disease"):
        fit_rule(healthy)


def test_the_command_fits_what_is_stored(tmp_path: Path) -> None:
    write_scans(tmp_path / "rule.jsonl", _scans(30, 4, 5.0))
    rule.main(["--bundle", "none", "--cohort", "none", "--output", str(tmp_path / "rule.json")])
    assert json.loads((tmp_path / "rule.json").read_text())["scans"] == 30
