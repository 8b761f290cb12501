"""Shipped for users' own tests: hosts and rails as namespaces, clusters in one process, nodes in
virtual time, and histories of what applications sent and saw, with the checkers that judge them.
"""
