"""The base models: what each is and how it is called (families), how it fits (compute), the one that comes along."""
