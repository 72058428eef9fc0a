"""Checkpoints of the original repository, converted to ours.

Architecture is read from the shapes, anchors from the stored generator, and names are those of today's
torchvision. Thresholds are not part of the original files; the converted ones carry the defaults of
`DetectorSettings` and `ClassifierSettings`, which are the values of the original code and paper.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from covid_ct_mask_net.checkpoints import Model, ModelCard, file_sha256, load_model, save_checkpoint
from covid_ct_mask_net.errors import UntrustedModelError, UsageError
from covid_ct_mask_net.labels import MaskType
from covid_ct_mask_net.networks.classifier import CovidCTMaskNet
from covid_ct_mask_net.networks.detector import LesionDetector
from covid_ct_mask_net.networks.ranked_rows import ROW_WIDTH
from covid_ct_mask_net.networks.settings import (
    FULL_BACKBONE,
    STAGE_COUNT,
    ClassifierSettings,
    DetectorSettings,
    light_detector_settings,
)
from covid_ct_mask_net.training.legacy_files import (
    LegacyFile,
    StoredTensor,
    is_anchor_generator,
    read_legacy_file,
)

UNSTATED_DATA = "not stated in the imported file"
# torchvision wraps these convolutions in blocks since 2022; S got shorter names here.
_RENAMED = (
    (re.compile(r"^(backbone\.fpn\.(?:inner|layer)_blocks\.\d+)\.(weight|bias)$"), r"\1.0.\2"),
    (re.compile(r"^rpn\.head\.conv\.(weight|bias)$"), r"rpn.head.conv.0.0.\1"),
    (re.compile(r"^s2new\.fc_scores\."), "s.fc1."),
    (re.compile(r"^s2new\.fc_scores_2\."), "s.fc2."),
    (re.compile(r"^s2new\.fc_scores_img\."), "s.fc3."),
)
_MASK_LAYER = re.compile(r"^roi_heads\.mask_head\.mask_fcn(\d+)\.(weight|bias)$")
_MASK_BRANCH = ("roi_heads.mask_head.", "roi_heads.mask_predictor.")
_S = "s.fc1.weight"
_NAMED_KEYS = 3


@dataclass(frozen=True, eq=False)
class ImportedNetwork:
    """A network of the original repository.

    Attributes
    ----------
    network
        Lesion detector or slice classifier with the file's weights, in test mode.
    epoch
        Epochs of training that the file states; empty if it does not.
    """

    network: LesionDetector | CovidCTMaskNet
    epoch: str

    @property
    def trunk(self) -> DetectorSettings:
        """Settings of the detector, or of the trunk of the classifier."""
        if isinstance(self.network, LesionDetector):
            return self.network.settings
        return self.network.detector_settings


def import_checkpoint(
    old: Sequence[Path],
    new: Path,
    *,
    two_classes: MaskType = MaskType.MERGE,
    name: str | None = None,
    trained_on: str = UNSTATED_DATA,
) -> Model:
    """Convert one file of the original repository, or a segmentation and a classifier file into one.

    Parameters
    ----------
    old : sequence of Path
        One or two files; with two, one of each kind and with the same trunk architecture.
    new : Path
        Checkpoint to write.
    two_classes : MaskType
        What a detector with one lesion class was trained on; its shapes do not tell ``ggo`` from ``merge``.
    name, trained_on : str, optional
        For the model card.

    Returns
    -------
    Model
        What `load_model` reads from the new file.

    Raises
    ------
    UntrustedModelError
        ``WEIGHTS_MISSING``, ``WEIGHTS_UNREADABLE``, ``WEIGHTS_UNSAFE``, ``WEIGHTS_MISMATCH`` or
        ``WEIGHTS_NON_FINITE``; nothing is written.
    UsageError
        If the files do not belong together or one of them would be overwritten.
    """
    if new.resolve() in [path.resolve() for path in old]:
        raise UsageError("OUTPUT", f"{new.name} is one of the files to import; name another file to write.")
    imported = [import_network(path, two_classes) for path in old]
    detectors = [i.network for i in imported if isinstance(i.network, LesionDetector)]
    classifiers = [i.network for i in imported if isinstance(i.network, CovidCTMaskNet)]
    if len(detectors) > 1 or len(classifiers) > 1:
        raise UsageError(
            "IMPORT_PAIR",
            f"The files hold {len(detectors)} detectors and {len(classifiers)} classifiers; "
            "give one file, or one of each kind.",
        )
    if len(imported) == 2 and imported[0].trunk != imported[1].trunk:
        raise UsageError(
            "IMPORT_PAIR",
            f"{old[0].name} has {describe(imported[0].trunk)}, but {old[1].name} has "
            f"{describe(imported[1].trunk)}; import them into two files.",
        )
    card = ModelCard(
        name=name or f"COVID-CT-Mask-Net {describe(imported[0].trunk)}",
        version=f"imported, epoch {' and '.join(i.epoch or 'unknown' for i in imported)}",
        trained_on=trained_on,
        notice="weights imported from the original repository's files, SHA-256 "
        + " and ".join(f"{file_sha256(path)[:12]}…" for path in old),
    )
    save_checkpoint(new, card, next(iter(detectors), None), next(iter(classifiers), None))
    return load_model(new)


def import_network(path: Path, two_classes: MaskType = MaskType.MERGE) -> ImportedNetwork:
    """Return the network in a file of the original repository (see `import_checkpoint`)."""
    file = read_legacy_file(path)
    content = file.content
    stored = content.get("model_weights") if isinstance(content, dict) else None
    if not isinstance(stored, dict) or not all(isinstance(v, StoredTensor) for v in stored.values()):
        raise _mismatch(file, "holds no state dictionary under model_weights")
    shapes = {rename(str(key)): tensor.shape for key, tensor in stored.items()}
    classifies = _S in shapes
    keys = {rename(str(key)): key for key in stored}
    if classifies:
        # Early classifier files carry the mask branch along; nothing in the classifier uses it.
        keys = {ours: key for ours, key in keys.items() if not ours.startswith(_MASK_BRANCH)}
    settings = _detector_settings(file, shapes, two_classes)
    network: LesionDetector | CovidCTMaskNet
    if classifies:
        network = CovidCTMaskNet(settings, _classifier_settings(file, shapes))
    else:
        network = LesionDetector(settings)
    _check_shapes(file, network, {ours: shapes[ours] for ours in keys})
    _copy(file, network, {ours: stored[key] for ours, key in keys.items()})
    epoch = content.get("epoch")
    return ImportedNetwork(network.eval(), str(epoch)[:8] if isinstance(epoch, (int, str)) else "")


def rename(key: str) -> str:
    """Return today's name of a weight of the original."""
    mask_layer = _MASK_LAYER.match(key)
    if mask_layer:
        return f"roi_heads.mask_head.{int(mask_layer[1]) - 1}.0.{mask_layer[2]}"
    for pattern, replacement in _RENAMED:
        key = pattern.sub(replacement, key)
    return key


def describe(settings: DetectorSettings) -> str:
    """Return the architecture in words, for example ``resnet18 truncated by 1, mask type both``."""
    truncated = f" truncated by {settings.truncation}" if settings.truncation else ""
    return f"{settings.backbone}{truncated}, mask type {settings.mask_type.value}"


def _detector_settings(
    file: LegacyFile, shapes: Mapping[str, tuple[int, ...]], two_classes: MaskType
) -> DetectorSettings:
    stages = [n for n in range(1, STAGE_COUNT + 1) if f"backbone.body.layer{n}.0.conv1.weight" in shapes]
    classes = _size(file, shapes, "roi_heads.box_predictor.cls_score.weight", 0)
    if classes not in (2, 3):
        raise _mismatch(file, f"tells {classes} lesion classes apart with background, not 2 or 3")
    if not stages:
        raise _mismatch(file, "holds no ResNet under backbone.body")
    architecture: dict[str, Any] = {
        "mask_type": MaskType.BOTH if classes == 3 else two_classes,
        "representation": _size(file, shapes, "roi_heads.box_head.fc6.weight", 0),
    }
    if "backbone.body.layer1.0.conv3.weight" in shapes:
        settings = DetectorSettings(backbone=FULL_BACKBONE, **architecture)
    else:
        deep = "backbone.body.layer1.2.conv1.weight" in shapes
        settings = light_detector_settings(
            backbone="resnet34" if deep else "resnet18", truncation=STAGE_COUNT - max(stages), **architecture
        )
    sizes, ratios = _anchors(file, settings.levels)
    if len(sizes) * len(ratios) != _size(file, shapes, "rpn.head.cls_logits.weight", 0):
        raise _mismatch(file, "has another number of anchors in its generator than in its weights")
    return DetectorSettings.from_dict(
        settings.to_dict() | {"anchor_sizes": list(sizes), "anchor_ratios": list(ratios)}
    )


def _anchors(file: LegacyFile, levels: int) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Return sizes and ratios of the stored generator.

    The original gives five tuples of each for four levels (or one) and pairs what there is; the surplus is
    cut. Our settings hold one tuple for all levels, as all of the original's files do.
    """
    generator = file.content.get("anchor_generator")
    values: list[tuple[Any, ...]] = []
    for attribute in ("sizes", "aspect_ratios"):
        found: Any = getattr(generator, attribute, None) if is_anchor_generator(generator) else None
        if not _are_numbers(found):
            raise _mismatch(file, "holds no anchor generator with sizes and ratios")
        per_level = [tuple(level) for level in found][:levels]
        if len(per_level) < levels or len(set(per_level)) != 1:
            raise _mismatch(file, f"does not have the same anchors at each of its {levels} levels")
        values.append(per_level[0])
    sizes, ratios = values
    return tuple(int(s) if s == int(s) else s for s in sizes), tuple(float(r) for r in ratios)


def _are_numbers(levels: Any) -> bool:
    return (
        isinstance(levels, (tuple, list))
        and all(isinstance(level, (tuple, list)) and len(level) > 0 for level in levels)
        and all(isinstance(v, (int, float)) and 0 < v < float("inf") for level in levels for v in level)
    )


def _classifier_settings(file: LegacyFile, shapes: Mapping[str, tuple[int, ...]]) -> ClassifierSettings:
    inputs = _size(file, shapes, _S, 1)
    if inputs == 0 or inputs % ROW_WIDTH:
        raise _mismatch(file, f"reads {inputs} values in S, which is no multiple of {ROW_WIDTH}")
    return ClassifierSettings(
        regions=inputs // ROW_WIDTH,
        features=_size(file, shapes, _S, 0),
        classes=_size(file, shapes, "s.fc3.weight", 0),
    )


def _size(file: LegacyFile, shapes: Mapping[str, tuple[int, ...]], key: str, axis: int) -> int:
    shape = shapes.get(key, ())
    if len(shape) <= axis:
        raise _mismatch(file, f"lacks {key}")
    return shape[axis]


def _check_shapes(file: LegacyFile, network: nn.Module, shapes: Mapping[str, tuple[int, ...]]) -> None:
    expected = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    # Counters of batches are not used with fixed momentum; old files may lack them.
    lacking = [k for k in expected if k not in shapes and not k.endswith(".num_batches_tracked")]
    surplus = [k for k in shapes if k not in expected]
    other = [k for k in shapes if k in expected and shapes[k] != expected[k]]
    for keys, complaint in (
        (lacking, "lacks"),
        (surplus, "has the unknown"),
        (other, "has another shape in"),
    ):
        if keys:
            more = f" and {len(keys) - _NAMED_KEYS} more" if len(keys) > _NAMED_KEYS else ""
            raise _mismatch(file, f"{complaint} {', '.join(repr(k[:80]) for k in keys[:_NAMED_KEYS])}{more}")


def _copy(file: LegacyFile, network: nn.Module, stored: Mapping[str, StoredTensor]) -> None:
    own = network.state_dict()
    with torch.no_grad():
        for key, tensor in stored.items():
            values: Tensor = file.tensor(tensor)
            if not torch.isfinite(values).all():
                raise UntrustedModelError(
                    "WEIGHTS_NON_FINITE", f"{file.name} holds values that are not numbers in {key}."
                )
            own[key].copy_(values)


def _mismatch(file: LegacyFile, found: str) -> UntrustedModelError:
    return UntrustedModelError(
        "WEIGHTS_MISMATCH",
        f"{file.name} {found}; expected a segmentation or classifier checkpoint of the original repository.",
    )
