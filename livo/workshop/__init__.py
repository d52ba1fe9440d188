"""The workshop: lessons of predict, observe, explain from one file each, alone or in a room; nothing here knows Gradio or torch."""
