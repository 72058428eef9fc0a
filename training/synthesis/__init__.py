"""Synthetic chest CT with lesions whose place, size and type are known."""
