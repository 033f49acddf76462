"""Speed and memory benchmarks, each against a named peer on the same machine."""
