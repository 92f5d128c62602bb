"""From a PALO checkpoint to GGUF files; installed as `palo_cpp.convert`."""
