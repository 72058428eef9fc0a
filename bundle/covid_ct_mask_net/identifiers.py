"""Identifiers that depend on nothing but their sources: a second run makes the same ones.

UIDs are of the form ``2.25.<UUID as integer>`` (PS3.5 B.2), the UUID being a name-based one (RFC 9562,
version 5) of what it is derived from, so that results of a re-run replace those of the first run.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import uuid

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_OID, "covid-ct-mask-net")
_SITE_KEY_VARIABLE = "COVID_CT_MASK_NET_SITE_KEY"


def derive_uid(*sources: str) -> str:
    """Return the DICOM UID that belongs to these sources, in this order.

    Parameters
    ----------
    *sources : str
        What the identified thing depends on: source UIDs, model hash, version, a name for its kind.
    """
    # Lengths keep ("ab", "c") and ("a", "bc") apart.
    name = "".join(f"{len(source)}:{source}" for source in sources)
    return f"2.25.{uuid.uuid5(_NAMESPACE, name).int}"


def pseudonym(identifier: str) -> str:
    """Return 12 hexadecimal digits that stand for a study in file names and logs.

    HMAC-SHA256 under the site's key (environment variable ``COVID_CT_MASK_NET_SITE_KEY``). Without a key
    the pseudonym is still stable and free of patient data, but whoever holds the UID can recompute it.
    """
    key = os.environ.get(_SITE_KEY_VARIABLE, "covid-ct-mask-net").encode()
    return hmac.new(key, identifier.encode(), hashlib.sha256).hexdigest()[:12]
