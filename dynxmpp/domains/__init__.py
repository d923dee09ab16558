"""The dynamic part of dynamic domains: store, synchronisation, removal."""
