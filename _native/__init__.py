"""The byte work in C, each part of which says why it is not in Python; imports nothing of ours."""
