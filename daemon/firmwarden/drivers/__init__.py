"""How each family of devices is updated: probe > enter > write > verify > leave > confirm."""
