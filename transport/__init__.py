"""phalanx.transport: membership, guaranteed messages and paths over several networks at once."""
