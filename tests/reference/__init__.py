"""The whole model in plain PyTorch float32, written to be read: what every number of palo_cpp is checked against.

    preprocess -> clip_vit -> projectors -> (prompt, splice) -> llama -> greedy decoding

Only the scripts that make the committed goldens import it; neither the package nor its tests need torch.
"""
