"""Ways to run the networks over slices, behind one interface: torch, exact (OpenVINO, float32) and fast."""
