"""What every command needs of the machine and the terminal; free of torch."""
