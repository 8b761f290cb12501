"""The sans-I/O core: no socket, clock, randomness, thread, asyncio or logging in here."""
