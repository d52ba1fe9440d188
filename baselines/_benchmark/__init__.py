"""The benchmark of the engine: not a method, so its name begins with an underscore."""
