"""COVID-CT-Mask-Net: regional features of chest CT for COVID-19 triage (research use only).

Networks and inference of the MONAI bundle. The paper: Ter-Sarkisov, A. (2022), *COVID-CT-Mask-Net:
Prediction of COVID-19 from CT Scans Using Regional Features*, Applied Intelligence 52, 9664-9675,
doi 10.1007/s10489-021-02731-6.
"""

__version__ = "0.1.0"

RESEARCH_NOTICE = (
    "Research use only. Not a medical device. Not for diagnosis or triage of patients. "
    "No CE mark, no FDA clearance."
)
UNTRAINED_NOTICE = "untrained weights, no diagnostic value"
