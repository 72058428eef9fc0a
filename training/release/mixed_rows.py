"""S alone on the rows of many slices, each computed in float32, bfloat16 and int8.

The trunk and the box head stay, so the rows of a slice are computed once. Engines of other precision give
other rows of the same slice: some regions change places. S is taught that they mean the same, by the class of
the slice and by its own answers to the other rows; an engine with small deviations may then stand in for the
exact one (``benchmarks/admission.py`` says whether it may).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from covid_ct_mask_net.engines.base import Engine, Precision, has_bfloat16
from covid_ct_mask_net.engines.compiled import CompiledEngine
from covid_ct_mask_net.engines.select import build_engine
from covid_ct_mask_net.errors import UntrustedModelError
from covid_ct_mask_net.networks.classifier import CovidCTMaskNet
from covid_ct_mask_net.networks.detector import LesionDetector
from covid_ct_mask_net.training.classification import ClassifierTraining
from covid_ct_mask_net.training.row_cache import RowSource


def mixed_sources(detector: LesionDetector | None, classifier: CovidCTMaskNet) -> dict[str, RowSource]:
    """Return what computes the rows that S learns from, by name: engines of the precisions of this processor.

    The first is exact.

    Raises
    ------
    UntrustedModelError
        If the start holds no detector, which engines take beside the classifier.
    """
    if detector is None:
        raise UntrustedModelError(
            "WEIGHTS_MISMATCH", "The checkpoint to start from holds no lesion detector; engines need both."
        )
    precisions = [Precision.BFLOAT16] if has_bfloat16() else []
    precisions += [Precision.INT8]
    return {"exact": rows_of(build_engine(detector, classifier, 1.0, name="exact", cache="none"))} | {
        precision.value: rows_of(
            build_engine(detector, classifier, 1.0, name="fast", precision=precision, cache="none")
        )
        for precision in precisions
    }


def rows_of(engine: Engine) -> RowSource:
    """Return the rows that an engine computes.

    Raises
    ------
    TypeError
        If it computes none that can be had.
    """
    if not isinstance(engine, CompiledEngine):
        raise TypeError(f"Rows are computed by compiled engines, not by {engine.report.name}.")
    return engine.rows


class MixedRowsTraining(ClassifierTraining):
    """S as it is trained on rows (B, engines, N, 5): ``forward`` returns logits (B, engines, classes).

    In test mode it reads the rows of the first engine alone and returns logits (B, classes).

    Parameters
    ----------
    classifier : CovidCTMaskNet
    dropout : float
        Share of the numbers of a slice's rows that are set to zero, the same for all engines: what differs
        between them is the engine alone.
    """

    def __init__(self, classifier: CovidCTMaskNet, dropout: float) -> None:
        super().__init__(classifier)
        self.dropout = dropout

    def forward(
        self,
        inputs: Tensor | Sequence[Tensor],
        scales: Sequence[float] | None = None,  # noqa: ARG002 - rows have none
    ) -> Tensor:
        """Return the logits of rows."""
        if not isinstance(inputs, Tensor):
            raise TypeError("Rows of several engines are read here, not slices.")
        if not self.training:
            return super().forward(inputs[:, 0])
        mask = functional.dropout(torch.ones_like(inputs[:, :1]), self.dropout)
        return super().forward((inputs * mask).flatten(0, 1)).view(*inputs.shape[:2], -1)


class AgreementLoss(nn.Module):
    """Cross entropy of the answers to the rows of each engine, and how far the answers of a slice diverge.

    Parameters
    ----------
    weight : (classes,)
        Of the classes.
    agreement : float
        Weight of the divergence.
    """

    weight: Tensor

    def __init__(self, weight: Tensor, agreement: float) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.agreement = agreement

    def forward(self, logits: Tensor, classes: Tensor) -> Tensor:
        """Return the loss of logits (B, engines, classes) against class ids (B,)."""
        truth = classes.repeat_interleave(logits.shape[1])
        told = functional.cross_entropy(logits.flatten(0, 1), truth, weight=self.weight)
        return told + self.agreement * divergence(logits)


def divergence(logits: Tensor) -> Tensor:
    """Return the mean Kullback-Leibler divergence of answers (B, engines, classes) from their mean."""
    answers = functional.log_softmax(logits, dim=-1)
    mean = torch.logsumexp(answers, dim=1, keepdim=True) - math.log(answers.shape[1])
    diverge: Tensor = (answers.exp() * (answers - mean)).sum(dim=-1).mean()
    return diverge
