"""What every page outside Gradio shares: append-only events, and what a request and an answer keep to."""
