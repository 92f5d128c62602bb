"""What differs between families of models: files, sizes, languages, prompt, notes for the user.

In: headers of GGUF files, turns. Out: segments of a prompt. Imports `languages`, `ggml` and the leaves.
"""
