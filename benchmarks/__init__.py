"""Speed and memory, each measured against a named peer in the same process."""
