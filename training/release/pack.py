"""Put trained weights into a bundle: 16 bits a number, and the hash into the manifest."""

from __future__ import annotations

from pathlib import Path

import torch

from covid_ct_mask_net.checkpoints import (
    MANIFEST_NAME,
    ModelCard,
    file_sha256,
    load_model,
    save_checkpoint,
)
from covid_ct_mask_net.errors import UntrustedModelError
from covid_ct_mask_net.training.files import write_text

CARD = ModelCard(
    name="COVID-CT-Mask-Net resnet18, synthetic",
    version="9",
    trained_on="synthetic lesions in phantom chests and in clear lungs of TCIA Lung-PET-CT-Dx (CC BY 4.0)",
    notice="trained on synthetic lesions, for demonstration only; results have no diagnostic value",
)
MOST_BYTES = 30_000_000


def pack(checkpoint: Path, models: Path) -> Path:
    """Write ``model.pt`` and its manifest into the folder ``models`` of a bundle and return the file.

    Networks compute in 32 bits as ever; the weights that they start from are rounded to 16 bits here, before
    anything is measured.

    Raises
    ------
    UntrustedModelError
        If the checkpoint lacks a network, or the file is larger than 30 MB.
    """
    model = load_model(checkpoint)
    if model.detector is None or model.classifier is None:
        raise UntrustedModelError("WEIGHTS_MISMATCH", f"{checkpoint.name} must hold both networks.")
    for network in (model.detector, model.classifier):
        network.half()
        if not all(torch.isfinite(tensor).all() for tensor in network.state_dict().values()):
            raise UntrustedModelError("WEIGHTS_NON_FINITE", f"{checkpoint.name} does not fit into 16 bits.")
    models.mkdir(parents=True, exist_ok=True)
    path = models / "model.pt"
    save_checkpoint(path, CARD, model.detector, model.classifier)
    if path.stat().st_size > MOST_BYTES:
        raise UntrustedModelError("WEIGHTS_LARGE", f"{path.name} is larger than 30 MB.")
    others = [line for line in _lines(models / MANIFEST_NAME) if not line.endswith(f"  {path.name}")]
    write_text(models / MANIFEST_NAME, "\n".join([*others, f"{file_sha256(path)}  {path.name}"]) + "\n")
    return path


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []
