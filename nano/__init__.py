"""PALO-Nano: a tiny ten-language PALO about simple drawings, made from nothing (nano/README.md).

    scenes -> questions -> conversations -> train -> export (published layout) -> palo-cpp convert -> evaluate

Runs from a clone, needs torch from `model` on; it is not part of the installed package.
"""
