"""PALO, and with it LLaVA-1.5 and MobileVLM: CLIP, a projector, LLaMA, the prompt `vicuna_v1`."""
