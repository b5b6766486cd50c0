"""What goes in and out through sockets: widgets that nodes share, values checked and turned into det_core's types."""
