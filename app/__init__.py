"""DICOM in, operator chain, DICOM out, and the command line."""
