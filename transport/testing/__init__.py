"""Shipped for users' own tests: hosts and rails as namespaces, and an in-process cluster."""
