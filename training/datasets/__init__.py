"""Data sets as lists of MONAI data dictionaries; one module a layout on disk."""
