"""Models from the hub to this machine: planned, fetched, and where they are checkpoints converted.

`opened_pull` plans; its `run` does it and can be killed at any moment, the next one goes on. `bring` is both for a
program that has a model's name and wants it here.
"""
