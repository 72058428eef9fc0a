"""Sending of results to an archive: C-STORE, storage commitment, STOW-RS."""
