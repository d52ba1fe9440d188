"""The workshop: lessons of predict, observe, explain, one file each, alone or in a room. Nothing here knows Gradio."""
