"""The configuration file: what may stand in it, and one readable line for each mistake."""
