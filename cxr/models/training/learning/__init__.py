"""How a network learns: its head alone, or its upper layers, epoch by epoch."""
