"""PALO, LLaVA-1.5 and MobileVLM: a CLIP vision tower, a projector and a LLaMA decoder."""
