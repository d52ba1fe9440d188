"""The workshop's pages: plain HTML, CSS and JavaScript over a small Starlette application."""
