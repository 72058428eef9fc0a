"""Every code that the DICOM results use, in one place.

Codes of PS3.16 come from pydicom's dictionary, so their meanings are the standard's. Those outside of it are
written out: SNOMED CT has the lung findings that DICOM has not (DICOM has no "consolidation"), and one
private code stands for what no scheme names. What the classes of the paper mean in SNOMED CT is a choice,
made here.
"""

from __future__ import annotations

from highdicom.coding_schemes import CodingSchemeIdentificationItem
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from covid_ct_mask_net.labels import LesionClass, Side, SliceClass, Zone
from covid_ct_mask_net.results import Priority

PRIVATE_SCHEME = "99CTMASK"

# The network does no PCR test: for COVID-19 the suspected disease is stated, never the disease. "Common
# Pneumonia" is the class of CNCB, pneumonia acquired in the community before COVID-19; "Control" has no
# pneumonia and may still have other findings.
CLASS_CODES = {
    SliceClass.CONTROL: codes.SCT.Normal,
    SliceClass.COMMON_PNEUMONIA: Code("385093006", "SCT", "Community acquired pneumonia"),
    SliceClass.COVID_19: Code("840544004", "SCT", "Suspected disease caused by SARS-CoV-2"),
}
LESION_CODES = {
    LesionClass.GROUND_GLASS_OPACITY: Code("112120", "DCM", "Ground glass opacity"),
    LesionClass.CONSOLIDATION: Code("95436008", "SCT", "Lung consolidation"),
}
MORPHOLOGICALLY_ABNORMAL = Code("49755003", "SCT", "Morphologically Abnormal Structure")
PNEUMONIA = Code("233604007", "SCT", "Pneumonia")

SIDE_CODES = {Side.RIGHT: codes.SCT.Right, Side.LEFT: codes.SCT.Left}
# Thirds of a lung's height are zones of the lung; lobes would claim more than is known.
ZONE_CODES = {
    Zone.UPPER: codes.SCT.UpperZoneOfLung,
    Zone.MIDDLE: codes.SCT.MiddleZoneOfLung,
    Zone.LOWER: codes.SCT.LowerZoneOfLung,
}
LUNG = codes.SCT.Lung

# CID 7035. Category 1 (within minutes) is for findings that threaten life at once; the model cannot tell
# those. Routine studies have no actionable finding.
PRIORITY = Code("260870009", "SCT", "Priority")
PRIORITY_CODES = {
    Priority.URGENT: codes.RADLEX.ACRCategory2ActionableFinding,
    Priority.RAISED: codes.RADLEX.ACRCategory3ActionableFinding,
}

# CID 6047: the outcome of a study in a word.
PROCESSING_SUMMARY = codes.DCM.CADProcessingAndFindingsSummary
SUCCEEDED_WITH_FINDINGS = codes.DCM.AllAlgorithmsSucceededWithFindings
SUCCEEDED_WITHOUT_FINDINGS = codes.DCM.AllAlgorithmsSucceededWithoutFindings
NOT_SUCCEEDED = codes.DCM.NoAlgorithmsSucceededWithoutFindings

IMPRESSION = codes.DCM.Impression
CERTAINTY_OF_IMPRESSION = codes.DCM.CertaintyOfImpression
CERTAINTY_OF_FINDING = codes.DCM.CertaintyOfFinding
PROBABILITY = codes.DCM.Probability
NUMBER_OF_LESIONS = Code("246206008", "SCT", "Number of lesions")
INVOLVEMENT = Code("CTM003", PRIVATE_SCHEME, "Lung involvement percentage")

VOLUME = codes.SCT.Volume
VOLUME_METHOD = codes.DCM.SumOfSegmentedVoxelMethodForVolume
AREA = codes.SCT.Area
AREA_METHOD = codes.DCM.AreaOfClosedIrregularPolygon
ATTENUATION = codes.DCM.AttenuationCoefficient
MEAN = codes.SCT.Mean
OUTLINE = Code("111041", "DCM", "Outline")

PERCENT = codes.UCUM.Percent
NO_UNITS = codes.UCUM.NoUnits
MILLILITRE = Code("mL", "UCUM", "milliliter")
SQUARE_MILLIMETRE = codes.UCUM.SquareMillimeter
HOUNSFIELD = codes.UCUM.HounsfieldUnit

# CID 100 has this one choice for CT; the procedure reported is the imaging, not the algorithm (IHE AIR).
PROCEDURE = Code("25045-6", "LN", "CT unspecified body region")
ARTIFICIAL_INTELLIGENCE = codes.DCM.ArtificialIntelligence
OF_INTEREST = codes.DCM.OfInterest
PROCESSING_EQUIPMENT = codes.DCM.ProcessingEquipment

# TID 1500 rows 12 to 14.
QUALITATIVE_EVALUATIONS = Code("C0034375", "UMLS", "Qualitative Evaluations")
CONCLUSION = codes.DCM.Conclusion
COMMENT = codes.DCM.Comment


def coding_schemes() -> tuple[CodingSchemeIdentificationItem, ...]:
    """Return the private scheme for the Coding Scheme Identification Sequence (PS3.3 C.12.1.1.9)."""
    return (
        CodingSchemeIdentificationItem(
            designator=PRIVATE_SCHEME,
            name="COVID-CT-Mask-Net private codes",
            version="1",
            responsible_organization="COVID-CT-Mask-Net contributors",
        ),
    )
