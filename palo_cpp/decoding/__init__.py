"""From logits to whole characters: constraints, choice, text, loops, and guesses at the token after the next.

In: logits; out: token ids and text. Imports `llm`, `languages` and the leaves.
"""
