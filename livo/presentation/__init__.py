"""What a comparison comes to, in one word a method and one picture to take along; for the page and the shell alike."""
