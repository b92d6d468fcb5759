"""Small, slow, obvious models in plain Python, written from the manual and the kernel alone."""
