"""MONAI dictionary transforms: orientation, HU windowing, lung mask, slice extraction and the way back."""

from covid_ct_mask_net.transforms.hounsfield import CheckHounsfieldd, WindowHounsfieldd
from covid_ct_mask_net.transforms.lung_mask import LungMaskd
from covid_ct_mask_net.transforms.orientation import CanonicalOrientationd
from covid_ct_mask_net.transforms.quality import CheckQualityd
from covid_ct_mask_net.transforms.restore import RestoreSourceGridd
from covid_ct_mask_net.transforms.slices import ExtractLungSlicesd

__all__ = [
    "CanonicalOrientationd",
    "CheckHounsfieldd",
    "CheckQualityd",
    "ExtractLungSlicesd",
    "LungMaskd",
    "RestoreSourceGridd",
    "WindowHounsfieldd",
]
