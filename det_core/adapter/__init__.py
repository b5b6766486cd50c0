"""The motion adapter: one temporal kernel a block, its file, and how it is put on a DiT."""
