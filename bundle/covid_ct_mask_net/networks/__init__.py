"""Mask R-CNN for lesions and COVID-CT-Mask-Net for slice classes, on torchvision's detection modules."""
