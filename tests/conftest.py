"""Settings that every test shares."""

import os

# Before torch is imported: tests start framework processes beside themselves on two cores.
os.environ.setdefault("OMP_NUM_THREADS", "2")

from hypothesis import settings  # noqa: E402

settings.register_profile("companion", deadline=None)  # a first call imports and compiles
settings.load_profile("companion")
