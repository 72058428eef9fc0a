"""Table 5's literature rows: cited with what their own publications state, never compared with ours.

Classes, test sets, prevalence and even the modality differ from row to row, so that no difference between two
rows says anything about the models.
"""

from __future__ import annotations

from dataclasses import dataclass

NOT_COMPARABLE = (
    "Cited rows are *not comparable* with ours or with one another: other patients, other classes, other "
    "prevalence, slices in one and whole scans in another. Baselines that were trained here, on the same "
    "splits, are the comparison."
)
UNSTATED = "not stated here; see the source"


@dataclass(frozen=True)
class Citation:
    """One row of Table 5 that comes from another publication.

    Attributes
    ----------
    name
        As the paper names the model.
    source
        Publication.
    test
        What it was tested on.
    figures
        What the publication states.
    caution
        Why it cannot be compared.
    checked
        Whether the figures were compared with the publication (its abstract); else they stand as they are
        usually cited.
    """

    name: str
    source: str
    test: str
    figures: str
    caution: str
    checked: bool = False

    @property
    def stated(self) -> str:
        """The figures, and whether somebody looked them up."""
        return self.figures if self.checked or self.figures == UNSTATED else f"{self.figures} (not verified)"


CITATIONS = (
    Citation(
        "ResNet50 [8]",
        "reference 8 of the paper",
        UNSTATED,
        UNSTATED,
        "figures are the paper's citation; a ResNet50 in the same harness is among the baselines",
    ),
    Citation(
        "LightCNN",
        "Polsinelli et al. 2020, Pattern Recognition Letters 140, 95-100, doi 10.1016/j.patrec.2020.10.001",
        "slices, two classes (COVID-19 or not)",
        "accuracy 85.03 %",
        "two classes",
        checked=True,
    ),
    Citation(
        "COVNet",
        "Li et al. 2020, Radiology 296, E65-E71, doi 10.1148/radiol.2020200905",
        "434 whole scans: 127 COVID-19, 175 community-acquired pneumonia, 132 neither (29.3 % COVID-19)",
        "COVID-19: sensitivity 90 %, specificity 96 %; pneumonia: sensitivity 87 %, specificity 92 %",
        "whole scans, not slices",
    ),
    Citation(
        "ResNet18 [3]",
        "Xu et al. 2020, Engineering 6, 1122-1129, doi 10.1016/j.eng.2020.04.010",
        "cases of COVID-19, influenza-A pneumonia and healthy persons",
        "accuracy 86.7 %",
        "influenza is not COVIDx-CT's common pneumonia; cases, not slices",
        checked=True,
    ),
    Citation(
        "DarkCOVIDNet",
        "Ozturk et al. 2020, Computers in Biology and Medicine 121, 103792, "
        "doi 10.1016/j.compbiomed.2020.103792",
        "radiographs, three classes",
        "accuracy 87.02 %",
        "chest *radiographs*, not CT",
    ),
    Citation(
        "DreNet",
        "Song et al. 2021, IEEE/ACM TCBB 18, 2775-2780, doi 10.1109/TCBB.2021.3065361",
        "patients: 88 COVID-19, 100 bacterial pneumonia, 86 healthy in all",
        "COVID-19 against others: sensitivity 93 %, PPV 86 %",
        "patients, not slices; bacterial pneumonia only",
        checked=True,
    ),
    Citation(
        "WRE + 3SBBO",
        "Wang et al. 2020, IJCIS 13, 1332-1344, doi 10.2991/ijcis.d.200828.001",
        "296 images in 10-fold cross-validation, two classes",
        UNSTATED,
        "two classes; cross-validation on 296 images",
    ),
)
