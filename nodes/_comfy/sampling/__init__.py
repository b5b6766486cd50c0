"""What acts while a MODEL samples: the motion adapter, and guidance without one."""
