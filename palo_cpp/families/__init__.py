"""What differs between families of models: files, sizes, languages, encoder, language model, prompt, notes to users.

In: headers of GGUF files, turns; out: loaded parts, segments of a prompt. Imports `decoding`, `llm`, `vision`,
`languages`, `ggml` and the leaves.
"""
