"""Reads ``[behaviour]`` of ``remit.toml``: the model by which watched calls are held against their task's objective.

Left out: whether the model is there. Only a node that decides needs it (``drivers/sentence_model.py``); replay and checks do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit.settings import BehaviourSettings

if TYPE_CHECKING:
    from pathlib import Path

    from remit.services.reading import Reader

_PACKAGE = "package"


def read_behaviour(root: Reader, folder: Path) -> BehaviourSettings:
    """The table's settings; what is wrong is noted."""
    table, defaults = root.table("behaviour"), BehaviourSettings()
    model = table.value("objective_model", str, defaults.model)
    percent = table.number("objective_similar_percent", defaults.similar_percent, 100)
    table.done()
    return BehaviourSettings(model=model if model in ("", _PACKAGE) else str(folder / model), similar_percent=percent)
