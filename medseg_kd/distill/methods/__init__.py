"""The methods as short types of their own: ``dict(type=CWD, tau=4, loss_weight=3)`` is a whole distiller."""
