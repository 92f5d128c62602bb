"""Measures encode, load, prefill, decode, first token and memory, for us and for llama.cpp on the same files.

Each side runs in a process of its own, so neither finds the other's libraries, caches or memory; the parent asks them
in turn, A B A B, and takes medians. Layers: run -> sides -> worker_process -> worker -> ours | peer.
"""
