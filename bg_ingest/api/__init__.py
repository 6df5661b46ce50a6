"""What is asked over HTTP, and how it is answered; what happens is in services."""
