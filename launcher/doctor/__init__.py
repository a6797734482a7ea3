"""`odcloud doctor`: everything that can be known before money is spent, one function per check."""
