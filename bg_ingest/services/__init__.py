"""What happens: the use cases. They await, and meet the world through ports alone."""
