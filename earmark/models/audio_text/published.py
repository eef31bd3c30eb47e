"""Published VoiceCLAP models: names and repositories on the Hugging Face hub.

No revisions are pinned, because none are published with the models; summaries record the commit that was loaded.
"""

import re
from typing import Literal

Kind = Literal["voiceclap", "sentence-transformers"]

# Name: (repository, kind of model). The small ones run code from their repository.
VOICECLAP: dict[str, tuple[str, Kind]] = {
    "voiceclap-small": ("laion/voiceclap-small", "voiceclap"),
    "voiceclap-small-v2": ("laion/voiceclap-small-v2", "voiceclap"),
    "voiceclap-large": ("laion/voiceclap-large", "sentence-transformers"),
    "voiceclap-large-v2": ("laion/voiceclap-large-v2", "sentence-transformers"),
    "voiceclap-commercial": ("laion/voiceclap-commercial", "voiceclap"),
}


def voiceclap_kind(hub_id: str) -> Kind | None:
    """Kind of model of a repository of the VoiceCLAP family; None for other repositories.

    Parameters
    ----------
    hub_id : str
        A repository of the publisher whose name starts with "voiceclap-". One that is not listed in `VOICECLAP` is a
        sentence-transformers model if "large" is part of its name.

    Examples
    --------
    >>> voiceclap_kind("laion/voiceclap-commercial"), voiceclap_kind("laion/voiceclap-large-v3")
    ('voiceclap', 'sentence-transformers')
    >>> voiceclap_kind("acme/voiceclap-small") is None
    True
    """
    listed = dict(VOICECLAP.values())
    if hub_id in listed:
        return listed[hub_id]
    match = re.fullmatch(r"laion/voiceclap-([\w.-]+)", hub_id)
    if match is None:
        return None
    return "sentence-transformers" if "large" in re.split(r"[-_.]", match[1]) else "voiceclap"
