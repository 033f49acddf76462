"""Speed and memory, each measured against a named peer in the same process."""

from experiment.console.command import prepare_process

prepare_process()
