"""The byte work in C, each part with the reason why it is here; imports nothing of ours."""
