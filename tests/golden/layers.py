"""A derived layer of the golden store of layout 2."""

from __future__ import annotations

from typing import Any

import numpy as np

from cogdata.derive import derives
from cogdata.episode import Episode
from cogdata.features import Feature, Per


@derives(Feature("progress", "float32"), Feature("caption", "string", per=Per.EPISODE))
def described(episode: Episode) -> dict[str, Any]:
    """Return how far each observation is through its episode, and a text."""
    progress = np.arange(episode.length, dtype=np.float32) / episode.steps
    return {"progress": progress, "caption": f"{episode.steps} steps"}
