"""One package for each family of models that the converter knows; everything outside is the same for all of them."""
