"""The pipeline that a bundle's configuration describes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor

from builders.chest import make_chest
from builders.networks import CARD, small_model, small_s, small_trunk
from builders.nifti import make_ct_volume
from covid_ct_mask_net import UNTRAINED_NOTICE
from covid_ct_mask_net.checkpoints import MANIFEST_NAME, Model, file_sha256, save_checkpoint
from covid_ct_mask_net.declining import DECLINED
from covid_ct_mask_net.engines import base
from covid_ct_mask_net.errors import NotAssessableError, UntrustedModelError, UsageError
from covid_ct_mask_net.inference import SliceInferer
from covid_ct_mask_net.networks.slice_model import Shared
from covid_ct_mask_net.paths import bundle_root
from covid_ct_mask_net.pipeline import (
    VolumePipeline,
    build_model,
    detector_network,
    load_pipeline,
    slice_model,
)
from covid_ct_mask_net.triage.pooling import Max

SMALL = {
    "weights": "untrained",
    "detector_settings#image_min_size": 64,
    "detector_settings#rpn_top_testing": 30,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def pipeline() -> VolumePipeline:
    return load_pipeline(bundle_root(), SMALL)


def _data(**properties) -> dict:  # type: ignore[no-untyped-def]
    chest = make_chest(spacing=(3.0, 3.0, 8.0), **properties)
    volume = MetaTensor(torch.from_numpy(chest.hu)[None], affine=torch.as_tensor(chest.affine))
    return {"volume": volume, "source_key": "key"}


def test_a_volume_goes_through_three_steps(pipeline: VolumePipeline) -> None:
    done: list[int] = []
    prepared = pipeline.prepare(_data())
    assert DECLINED not in prepared
    assert prepared["slices"][:].min() >= 0.0
    assert prepared["slices"][:].max() <= 1.0
    assessed = pipeline.assess(pipeline.infer(prepared, done.append))
    assert sum(done) == len(prepared["slice_indices"]) == len(assessed["outcome"].slices)
    assert assessed["lesion_mask"].shape == prepared["volume"].shape
    assert sum(assessed["outcome"].triage.probabilities) == pytest.approx(1.0)


def test_settings_for_the_record_are_words_and_numbers() -> None:
    changed = load_pipeline(bundle_root(), {**SMALL, "triage#min_confidence": 0.6, "slices": "adaptive=5"})
    assert changed.triage.triage.min_confidence == 0.6
    assert changed.settings["min_confidence"] == 0.6
    assert (changed.settings["slices"], changed.settings["crop"]) == ("adaptive=5", "none")
    assert changed.configuration != load_pipeline(bundle_root(), SMALL).configuration
    # What is computed or a path is not repeated.
    elsewhere = load_pipeline(bundle_root(), {**SMALL, "slices": "$'a' + 'll'"})
    assert "slices" not in elsewhere.settings


def test_the_default_weights_say_what_they_were_trained_on() -> None:
    model = load_pipeline(bundle_root()).model
    assert "synthetic lesions" in model.trained_on
    assert "demonstration only" in model.notice


def test_untrained_weights_say_so(pipeline: VolumePipeline) -> None:
    assert pipeline.model.notice == UNTRAINED_NOTICE
    assert not pipeline.network.training
    assert pipeline.network.shared is Shared.REGIONS


def test_a_declined_volume_passes_through(pipeline: VolumePipeline) -> None:
    declined = pipeline.prepare(_data(bottom=-330.0))
    assert declined[DECLINED].code == "NOT_CHEST"
    assert declined["source_key"] == "key"
    for step in (pipeline.infer, pipeline.assess):
        assert step(declined)[DECLINED] is declined[DECLINED]
        assert "outcome" not in step(declined)


def test_a_network_without_numbers_declines_the_volume(pipeline: VolumePipeline) -> None:
    prepared = pipeline.prepare(_data())

    class Broken:
        def __call__(self, *_: object) -> None:
            raise NotAssessableError("MODEL_NON_FINITE", "No number.")

    broken = VolumePipeline(pipeline.transforms, Broken(), pipeline.network, pipeline.triage, pipeline.model)  # type: ignore[arg-type]
    assert broken.infer(prepared)[DECLINED].code == "MODEL_NON_FINITE"


def test_entries_of_the_configuration_can_be_replaced() -> None:
    changed = load_pipeline(
        bundle_root(),
        {**SMALL, "pooling": {"_target_": "covid_ct_mask_net.triage.pooling.Max"}, "inferer#batch_size": 3},
    )
    assert isinstance(changed.triage.triage.pooling, Max)
    assert changed.inferer.batch_size == 3


def test_equal_seeds_make_equal_weights_and_hashes() -> None:
    models = [build_model("untrained", ".", small_trunk(), small_s(), seed) for seed in (1, 1, 2)]
    hashes = [model.report.sha256 for model in models]
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_folder_without_bundle_is_named(tmp_path: Path) -> None:
    with pytest.raises(UntrustedModelError) as caught:
        load_pipeline(tmp_path)
    assert caught.value.code == "BUNDLE_MISSING"


def _saved(folder: Path, model: Model) -> str:
    (folder / "models").mkdir()
    save_checkpoint(folder / "models" / "model.pt", CARD, model.detector, model.classifier)
    listed = file_sha256(folder / "models" / "model.pt")
    (folder / "models" / MANIFEST_NAME).write_text(f"{listed}  model.pt\n")
    return "models/model.pt"


def test_trained_weights_come_from_the_bundle(tmp_path: Path) -> None:
    saved = small_model(seed=7)
    weights = _saved(tmp_path, saved)
    model = build_model(weights, str(tmp_path), small_trunk(), small_s(), seed=1)
    assert model.report.name == "small"
    for mine, theirs in zip(model.classifier.parameters(), saved.classifier.parameters(), strict=True):  # type: ignore[union-attr]
        assert torch.equal(mine, theirs)


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    weights = _saved(tmp_path, small_model())
    with pytest.raises(
        UntrustedModelError, match="use the configuration that belongs to the weights"
    ) as caught:
        build_model(weights, str(tmp_path), small_trunk(truncation=1), small_s(), seed=1)
    assert caught.value.code == "WEIGHTS_MISMATCH"


def test_altered_and_unlisted_weights_are_refused(tmp_path: Path) -> None:
    weights = tmp_path / _saved(tmp_path, small_model())
    shutil.copy(weights, weights.with_name("other.pt"))
    with pytest.raises(UntrustedModelError):
        build_model("models/other.pt", str(tmp_path), small_trunk(), small_s(), seed=1)
    weights.write_bytes(weights.read_bytes() + b"x")
    with pytest.raises(UntrustedModelError):
        build_model("models/model.pt", str(tmp_path), small_trunk(), small_s(), seed=1)
    with pytest.raises(UntrustedModelError):
        build_model("models/gone.pt", str(tmp_path), small_trunk(), small_s(), seed=1)


def test_half_a_model_cannot_triage() -> None:
    model = small_model()
    half = Model(None, model.classifier, model.report)
    with pytest.raises(UntrustedModelError):
        slice_model(half, 0.5, torch.device("cpu"))
    with pytest.raises(UntrustedModelError):
        detector_network(half, use_list_output=False)


def _sure_of_covid(sampling: str) -> VolumePipeline:
    """The pipeline with a head S that says COVID-19 whatever it is shown; no lesion is asked for."""
    settings = {**SMALL, "slices": sampling, "coarse_mm": 20, "triage::support::weight": 1.0}
    pipeline = load_pipeline(bundle_root(), settings)
    with torch.no_grad():
        pipeline.network.classifier.s.fc3.weight.mul_(0.01)
        pipeline.network.classifier.s.fc3.bias.copy_(torch.tensor([0.0, 0.0, 30.0]))
    return pipeline


def test_adaptive_reading_stops_where_the_answer_is_known() -> None:
    outcomes = {}
    for sampling in ("all", "adaptive"):
        pipeline = _sure_of_covid(sampling)
        outcomes[sampling] = pipeline.assess(pipeline.infer(pipeline.prepare(_data())))["outcome"]
    whole, early = outcomes["all"], outcomes["adaptive"]
    assert whole.sampling.skipped_slices == 0
    assert early.sampling.stopped_early
    assert early.sampling.read_slices == len(early.slices) < len(whole.slices)
    for name in ("predicted_class", "probabilities", "priority", "priority_rule", "negative"):
        assert getattr(early.triage, name) == getattr(whole.triage, name)


@pytest.mark.parametrize(("name", "meant"), [("slicess", "slices"), ("nothing#here", "inference.yaml")])
def test_settings_that_the_configuration_does_not_have_are_refused(name: str, meant: str) -> None:
    """MONAI adds an entry that nothing reads, or ends with a KeyError."""
    with pytest.raises(UsageError, match=meant) as caught:
        load_pipeline(str(bundle_root()), {name: 0})
    assert caught.value.code == "SETTING"


def test_workers_are_no_more_than_slices_in_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "usable_cores", lambda: 64)
    engine = load_pipeline(bundle_root(), {**SMALL, "engine": "exact", "inferer#batch_size": 3}).network
    assert engine._worker_count == 3  # type: ignore[attr-defined]


def test_in_a_run_over_several_volumes_one_without_numbers_is_declined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MONAI's evaluator would end with the first: the others would have no result."""
    for name, slices in (("a.nii.gz", 20), ("b.nii.gz", 22)):
        make_ct_volume(tmp_path / name, (slices, 80, 64))
    parser = ConfigParser()
    parser.read_config(str(bundle_root() / "configs" / "inference.yaml"))
    settings = {**SMALL, "dataset_dir": str(tmp_path), "output_dir": str(tmp_path / "eval"), "handlers": []}
    parser.update(settings)
    answer, calls = SliceInferer.__call__, []

    def first_without_numbers(self: SliceInferer, *given: object, **named: object) -> object:
        calls.append(1)
        if len(calls) == 1:
            raise NotAssessableError("MODEL_NON_FINITE", "No number.")
        return answer(self, *given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(SliceInferer, "__call__", first_without_numbers)
    parser.get_parsed_content("run")
    results = [json.loads(path.read_text()) for path in (tmp_path / "eval").glob("*/result.json")]
    assert sorted(result["status"] for result in results) == ["assessed", "not_assessed"]
    (declined,) = (result for result in results if result["status"] != "assessed")
    assert [reason["code"] for reason in declined["reasons"]] == ["MODEL_NON_FINITE"]
