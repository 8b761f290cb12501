"""phalanx.barrier: named barriers, and the order that comes from them."""
