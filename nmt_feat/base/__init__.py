"""Ground floor: files, processes and the terminal; knows nothing of translation."""
