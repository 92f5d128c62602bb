"""The ten human languages: names, scripts, prompts, and which of them a text is in.

In: text, codes; out: entries of one table, verdicts. Imports only the leaves.
"""
