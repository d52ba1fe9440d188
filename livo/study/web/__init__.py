"""The rating pages and the organiser's page: a small application that runs alone or is mounted beside the demo."""
