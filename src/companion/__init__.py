"""A reproducible companion to TS-OPSD: reheat an entropy-collapsed RL policy, then resume RL.

Start with the notebooks; every call they make is one module here. See README.md for the map.
"""

import os

# Before torch is imported: without it the idle OpenMP threads of one process spin on the core that
# another waits for (21 s instead of 0.9 s to measure a checkpoint while verl holds two cores).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
