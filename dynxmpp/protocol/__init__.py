"""Small stateless parts that several extensions share."""
