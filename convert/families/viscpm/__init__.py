"""VisCPM-Chat: BEiT-3, a mapping and CPM-Bee; `tensor_rows` has a table of everything in its two files."""
