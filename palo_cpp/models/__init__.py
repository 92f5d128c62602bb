"""From a name to a loaded model.

In: a name, a folder or a GGUF file; out: everything that conversations with the model share. Imports every room that a
question passes through, but `chat`.
"""
