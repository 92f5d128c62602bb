"""Models from a hub: downloads that survive their process, verified, in the cache that `hf` and llama.cpp read.

`huggingface_hub` gives the API, the layout of the cache, the token and the endpoint; resuming, parallel ranges and
hashes are ours. Knows files and repositories, no models.
"""
