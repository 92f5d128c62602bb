"""VisCPM-Chat: BEiT-3 and CPM-Bee, in Chinese and English; also CPM-Bee's tokens and the tree that a request is."""
