"""The networks: how they are built, cut, fused and averaged, and where their weights come from."""
