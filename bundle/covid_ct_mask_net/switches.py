"""Switches of configurations, which MONAI hands on as texts."""

from __future__ import annotations

from covid_ct_mask_net.errors import UsageError


def switch(value: object, name: str = "A switch") -> bool:
    """Return a switch of a configuration as a truth value.

    MONAI hands ``--amp false`` on as the text "false", which Python takes for true.

    Parameters
    ----------
    value : object
    name : str
        Of the setting, with which the sentence begins.

    Raises
    ------
    UsageError
        If it is neither true nor false.
    """
    known = {"true": True, "false": False, "1": True, "0": False}
    text = str(value).lower()
    if text not in known:
        raise UsageError("SWITCH", f"{name} is set to {value!r}, but must be true or false.")
    return known[text]
