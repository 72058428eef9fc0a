"""MONAI dictionary transforms: orientation, HU windowing, lung mask, slice extraction and the way back."""
