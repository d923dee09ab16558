"""Does the server keep its word? Clients that remember everything, while the server and its database are killed.

    python -m tests.chaos --kills 200 --seed 7

An acknowledged message (XEP-0198) is in both archives (XEP-0313), in the order in which it was sent, and no more often
than it was sent. What the program does and what it found is in docs/reliability.md.
"""
