"""What differs between families of models: files, sizes, languages, encoder, language model, prompt, notes for the user.

In: headers of GGUF files, turns; out: loaded parts, segments of a prompt. Imports the rooms below it: `decoding`, `llm`,
`vision`, `languages`, `ggml`.
"""
