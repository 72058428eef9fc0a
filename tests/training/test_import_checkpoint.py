"""Files of the original repository become ours, and the networks in them answer as they did."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import Tensor

from builders.networks import random_slices
from builders.original import SIZES, OriginalClassifier, original_state, write_original
from covid_ct_mask_net.checkpoints import load_classifier, load_model, load_segmentation
from covid_ct_mask_net.errors import UntrustedModelError, UsageError
from covid_ct_mask_net.labels import MaskType
from covid_ct_mask_net.networks.classifier import CovidCTMaskNet
from covid_ct_mask_net.networks.slice_model import Shared, SliceModel
from covid_ct_mask_net.training.import_checkpoint import import_checkpoint, import_network, rename

# The published files: ResNet50 with both lesions and merged, ResNet34 and ResNet18 without their last stage.
PUBLISHED = [
    ("resnet50", 0, 3, (256, 1024)),
    ("resnet50", 0, 2, (256, 1024)),
    ("resnet34", 1, 2, (128, 512)),
    ("resnet18", 1, 2, (128, 512)),
]
VARIANTS = [f"{backbone}-t{cut}-{classes}" for backbone, cut, classes, _ in PUBLISHED]
# One whose short side is not 512: the resize of 2020 takes part.
SLICES = random_slices((512, 512), (400, 512), seed=3)


def _light(tmp_path: Path, name: str = "old.pth", **changes: object) -> Path:
    state = original_state("resnet18", 2, 2, s=(128, 512), masks=False)
    return write_original(tmp_path / name, state, **changes)  # type: ignore[arg-type]


def _refusal(path: Path) -> UntrustedModelError:
    with pytest.raises(UntrustedModelError) as caught:
        import_network(path)
    assert path.name in caught.value.sentence
    return caught.value


@pytest.mark.parametrize(("backbone", "truncation", "classes", "s"), PUBLISHED, ids=VARIANTS)
def test_logits_are_those_of_the_original(
    backbone: str, truncation: int, classes: int, s: tuple[int, int], tmp_path: Path
) -> None:
    state = original_state(backbone, truncation, classes, s=s, masks=False, seed=7)
    old = write_original(tmp_path / "old.pth", state, module="models.mask_net.rpn")
    import_checkpoint([old], tmp_path / "new.pt")
    network = load_classifier(tmp_path / "new.pt")
    reference = OriginalClassifier(state, backbone, truncation, min_size=512)
    with torch.no_grad():
        # The large network takes seconds a slice; one of its two files gets each size.
        for image in SLICES[classes - 2 :][:1] if backbone == "resnet50" else SLICES:
            rows, logits = reference(image)
            assert torch.allclose(network.rows([image])[0], rows, atol=1e-3)
            assert torch.allclose(network([image])[0], logits, atol=1e-3)
            # Random weights of order one: agreement would mean nothing if all logits were near zero.
            assert float(logits.abs().max()) > 0.05


@pytest.mark.parametrize(("backbone", "truncation", "classes", "s"), PUBLISHED[1:], ids=VARIANTS[1:])
def test_architecture_is_read_from_the_shapes(
    backbone: str, truncation: int, classes: int, s: tuple[int, int], tmp_path: Path
) -> None:
    masks = original_state(backbone, truncation, classes, s=None, masks=True)
    trunk = import_network(write_original(tmp_path / "segmentation.pth", masks), MaskType.GGO).trunk
    assert (trunk.backbone, trunk.truncation) == (backbone, truncation)
    assert trunk.mask_type is MaskType.GGO
    assert trunk.anchor_sizes == SIZES
    found = import_network(
        write_original(
            tmp_path / "classifier.pth", original_state(backbone, truncation, classes, s=s, masks=False)
        )
    )
    assert isinstance(found.network, CovidCTMaskNet)
    assert (found.network.settings.regions, found.network.settings.features) == s
    assert (found.network.settings.classes, found.epoch) == (3, "100")
    assert found.trunk.mask_type is MaskType.MERGE


def test_every_weight_of_the_file_arrives(tmp_path: Path) -> None:
    state = original_state("resnet34", 1, 3, s=None, masks=True)
    import_checkpoint([write_original(tmp_path / "old.pth", state)], tmp_path / "new.pt")
    detector = load_segmentation(tmp_path / "new.pt")
    assert detector.settings.mask_type is MaskType.BOTH, "two lesion classes are told by the shapes"
    ours = detector.state_dict()
    arrived = {rename(key) for key in state}
    assert arrived == set(ours)
    assert all(torch.equal(ours[rename(key)], tensor) for key, tensor in state.items())


def test_eighteen_names_of_the_classifier_have_changed() -> None:
    classifier = original_state("resnet50", 0, 3, s=(256, 1024), masks=False)
    renamed = [key for key in classifier if rename(key) != key and not key.startswith("s2new.")]
    assert len(renamed) == 18
    assert rename("roi_heads.mask_head.mask_fcn4.bias") == "roi_heads.mask_head.3.0.bias"


def test_two_files_become_one_that_shares_its_trunk(tmp_path: Path) -> None:
    segmentation = original_state("resnet18", 2, 3, s=None, masks=True, seed=1)
    # Mode S of the paper: the trunk of the segmentation network, and S.
    classifier: OrderedDict[str, Tensor] = OrderedDict(
        (key, value) for key, value in segmentation.items() if ".mask_" not in key
    )
    s = original_state("resnet18", 2, 3, s=(128, 512), masks=False, seed=2)
    classifier.update((key, value) for key, value in s.items() if key.startswith("s2new."))
    old = [
        write_original(tmp_path / "seg.pth", segmentation),
        write_original(tmp_path / "cls.pth", classifier, module="models.mask_net.rpn"),
    ]
    model = import_checkpoint(old, tmp_path / "both.pt", name="both", trained_on="CNCB and COVIDx-CT")
    assert model.detector is not None
    assert model.classifier is not None
    assert SliceModel(model.detector, model.classifier, 0.5).shared is Shared.REGIONS
    report = load_model(tmp_path / "both.pt").report
    assert (report.name, report.trained_on) == ("both", "CNCB and COVIDx-CT")
    assert report.version == "imported, epoch 100 and 100"
    assert (tmp_path / "both.pt").stat().st_size < 1.2 * old[0].stat().st_size


def test_mask_branch_in_early_classifier_files_is_dropped(tmp_path: Path) -> None:
    state = original_state("resnet18", 2, 2, s=(128, 512), masks=True)
    network = import_network(write_original(tmp_path / "old.pth", state)).network
    assert isinstance(network, CovidCTMaskNet)
    assert not [key for key in network.state_dict() if "mask" in key]


def test_files_without_counters_of_batches_are_taken(tmp_path: Path) -> None:
    state = original_state("resnet18", 2, 2, s=(128, 512), masks=False)
    for key in [key for key in state if key.endswith("num_batches_tracked")]:
        del state[key]
    assert import_network(write_original(tmp_path / "old.pth", state)).trunk.backbone == "resnet18"


def test_anchors_are_those_of_the_file(tmp_path: Path) -> None:
    sizes = ((4, 8, 16, 32, 64),) * 5
    assert import_network(_light(tmp_path, sizes=sizes)).trunk.anchor_sizes == sizes[0]


def test_files_that_are_something_else_are_refused_by_name(tmp_path: Path) -> None:
    state = original_state("resnet18", 2, 2, s=(128, 512), masks=False)
    less = OrderedDict(state)
    del less["rpn.head.conv.weight"]
    error = _refusal(write_original(tmp_path / "less.pth", less))
    assert error.code == "WEIGHTS_MISMATCH"
    assert "lacks 'rpn.head.conv.0.0.weight'" in error.sentence
    more = OrderedDict({**state, "extra.weight": torch.zeros(2)})
    assert "has the unknown 'extra.weight'" in _refusal(write_original(tmp_path / "more.pth", more)).sentence
    other = OrderedDict({**state, "rpn.head.conv.bias": torch.zeros(255)})
    assert "another shape" in _refusal(write_original(tmp_path / "other.pth", other)).sentence
    nothing = write_original(tmp_path / "nothing.pth", state, model_weights=None)
    assert "no state dictionary" in _refusal(nothing).sentence
    no_anchors = write_original(tmp_path / "no-anchors.pth", state, anchor_generator=None)
    assert "no anchor generator" in _refusal(no_anchors).sentence
    nan = OrderedDict({**state, "rpn.head.conv.bias": torch.full((256,), torch.nan)})
    assert _refusal(write_original(tmp_path / "nan.pth", nan)).code == "WEIGHTS_NON_FINITE"


def test_anchors_that_do_not_fit_the_weights_are_refused(tmp_path: Path) -> None:
    assert "another number of anchors" in _refusal(_light(tmp_path, sizes=((2, 4),) * 5)).sentence
    assert "same anchors at each" in _refusal(_light(tmp_path, sizes=())).sentence


def test_s_that_reads_no_rows_is_refused(tmp_path: Path) -> None:
    state = original_state("resnet18", 2, 2, s=(128, 512), masks=False)
    state["s2new.fc_scores.weight"] = torch.zeros(512, 642)
    assert "no multiple of 5" in _refusal(write_original(tmp_path / "old.pth", state)).sentence


def test_a_refused_import_writes_nothing_and_never_overwrites_its_source(tmp_path: Path) -> None:
    old = _light(tmp_path)
    with pytest.raises(UsageError, match="one of the files to import"):
        import_checkpoint([old], old)
    with pytest.raises(UsageError, match="2 classifiers"):
        import_checkpoint([old, _light(tmp_path, "second.pth")], tmp_path / "new.pt")
    other = write_original(tmp_path / "other.pth", original_state("resnet34", 1, 2, s=None, masks=True))
    with pytest.raises(UsageError, match="import them into two files"):
        import_checkpoint([other, old], tmp_path / "new.pt")
    assert not (tmp_path / "new.pt").exists()
