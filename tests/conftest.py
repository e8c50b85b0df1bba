"""What all tests share."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec

import pytest
from hypothesis import HealthCheck, settings

collect_ignore = [] if find_spec("tokenizers") else ["objective"]  # `make test-objective` installs what these need
settings.register_profile("remit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("remit")
os.environ.setdefault("PYTHONPATH", os.pathsep.join(["src", "."]))
# Hundreds of processes are started: where images set this, each would compile all of remit anew, which takes half of its start.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
