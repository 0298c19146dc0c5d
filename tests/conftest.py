"""What all tests share."""

import os

# Two cores are shared by everything that runs at once; more threads only make tests slower.
os.environ.setdefault("OMP_NUM_THREADS", "2")
