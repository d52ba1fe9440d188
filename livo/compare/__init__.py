"""One prompt through any number of methods: the run, what it costs before it is made, and its record as plain data."""
