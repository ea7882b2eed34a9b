"""Every claim about speed or error rates, as a program that prints the table it rests on."""
