"""A reproducible companion to TS-OPSD: reheat an entropy-collapsed RL policy, then resume RL.

Start with the notebooks; every call they make is one module here. See README.md for the map.
"""

import os

# Before torch is imported: how long an idle OpenMP thread spins before it sleeps. By default it
# spins for milliseconds on a core that another process waits for (measuring a checkpoint beside
# verl took 21 s instead of 0.9 s); without any spinning, waking it for every small operation eats
# what a second thread gains (an update 1.6 s instead of 1.1 s, as with one thread).
os.environ.setdefault("GOMP_SPINCOUNT", "2000")

__version__ = "0.1.0"
