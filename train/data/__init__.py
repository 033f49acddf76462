"""What is trained on: pairs and tuples, and the commands that make them."""
