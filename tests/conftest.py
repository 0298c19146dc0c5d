"""What all tests share."""

import os

# Models here are tiny, and threads that wait for each other on busy cores are slower than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")
