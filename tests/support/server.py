"""Imported by the server of `lives.py` before it forks: what each of its processes would do."""

import gc

from hydra.core.plugins import Plugins

from tests.support.compositions import keep_compositions
from tests.support.speed import spare_time

spare_time()
keep_compositions()
Plugins.instance()  # imports all plug-ins, of which Optuna's alone takes two seconds
gc.freeze()  # what is imported stays
