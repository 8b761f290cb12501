"""Drivers: I/O only, no protocol decision. The contract is in `base`."""
