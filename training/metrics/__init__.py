"""What is measured: slice classes, detections, lesion pixels, calibration, and how sure the figures are."""
