"""What the benchmarks share: phalanx and its peers on the same hosts, measured alike."""
