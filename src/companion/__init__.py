"""A reproducible companion to TS-OPSD: reheat an entropy-collapsed RL policy, then resume RL.

Start with the notebooks; every call they make is one module here. See README.md for the map.
"""

__version__ = "0.1.0"
