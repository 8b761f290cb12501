"""Shipped for users' own tests: hosts and rails as namespaces, a cluster in one process, whole nodes
in virtual time, and histories of what applications sent and saw with the checkers that judge them.
"""
